#!/usr/bin/env bash
# The study of manipulation tasks in bench/results/manipulation.md. Repeating it continues.
#
#   bench/studies/manipulation.sh [OUT]     (fastifo, robosuite and metaworld are installed)
#
# Backgrounds are episodes of clones of d demonstrations, of a scripted expert with three scales of
# action noise, or of a script that misjudges where the object is. Time limits are short, so that
# mistakes decide over success. A task's rows are in OUT/<folder>/results.csv once it is done.
set -e
out=${1:-studies/manipulation}
fastifo=${FASTIFO:-fastifo}
methods="bc vfo_bin vfo_disc awr smodice dilo"
small="batch_size=128 learning_rate=0.001 standardize_obs=true disc_updates=2000"

study() {  # folder, methods, settings of the environments, other fields; then flags
  local folder=$1 algorithms=$2 settings=$3 fields=$4
  shift 4
  $fastifo study sibench --out "$out/$folder" --algorithms $algorithms --preset robomimic \
    --hidden-sizes 128 128 --num-updates 5000 --seeds 0 1 2 --env-arg $settings \
    --set $small $fields "$@"
}

door="--envs metaworld/DoorOpen --background-noise 0.4 0.5 0.7 --episodes 100 --demos 50"
meta="max_episode_steps=100 success_terminal=false"
robot="lite_physics=true success_terminal=false"

# Clones of d demonstrations, as in the paper, with the preset's temperature. Success only cuts an
# episode (false) or ends the task (true).
clones() {  # folder, whether success is terminal, task, numbers of demonstrations
  $fastifo study sibench --out "$out/$1" --algorithms $methods --preset robomimic \
    --hidden-sizes 128 128 --num-updates 5000 --seeds 0 1 2 --envs "metaworld/$3" \
    --env-arg max_episode_steps=100 success_terminal=$2 --sizes ${*:4} --episodes 200 --demos 100 \
    --bc-updates 2000 --eval-episodes 40 \
    --set batch_size=256 learning_rate=0.001 standardize_obs=true disc_updates=2000
}
clones clones false DrawerOpen 1 2 5
clones clones false DoorOpen 1 2 3
clones clones false CoffeeButton 1 2 5
clones clones-terminal true DrawerOpen 1 2 5

robot_clones() {  # task, steps, episodes, updates; then flags
  $fastifo study sibench --out "$out/robot-clones" --algorithms bc vfo_bin awr vfo_disc \
    --preset robomimic --hidden-sizes 128 128 --num-updates "$4" --seeds 0 1 2 \
    --envs "robosuite/$1" --env-arg max_episode_steps="$2" $robot --episodes "$3" --demos 30 \
    --bc-updates 2000 \
    --set batch_size=256 learning_rate=0.001 standardize_obs=true disc_updates=2000 "${@:5}"
}
robot_clones Lift 60 40 4000 --sizes 1 2 5 --eval-episodes 8
robot_clones PickPlaceCan 160 40 5000 --sizes 10 30 --eval-episodes 6
robot_clones NutAssemblySquare 250 30 5000 --sizes 30 --eval-episodes 6

# Noisy experts: temperature 1, and success only cuts an episode.
study main "$methods" "$meta" temperature=1 $door --eval-episodes 20
study main "$methods" "max_episode_steps=60 $robot" temperature=1 --envs robosuite/Lift \
  --background-noise 0.2 0.25 0.3 --episodes 80 --demos 30 --eval-episodes 8
study main "$methods" "$meta" temperature=1 --envs metaworld/PickPlace \
  --background-noise 0.3 0.5 0.7 --episodes 100 --demos 50 --eval-episodes 20 --num-updates 3000
study main "$methods" "max_episode_steps=160 $robot" temperature=1 --envs robosuite/PickPlaceCan \
  --background-noise 0.2 0.3 0.4 --episodes 40 --demos 20 --eval-episodes 4 --num-updates 3000

# The same methods where the other episodes of the background are a script's that misjudges where
# the object is. The settings are the quickstart's, which were chosen on another task.
misjudged() {  # folder, methods, settings of the environment; then flags
  local folder=$1 algorithms=$2 settings=$3
  shift 3
  $fastifo study bimodal --out "$out/$folder" --algorithms $algorithms --preset robomimic \
    --hidden-sizes 64 64 --num-updates 2000 --seeds 0 1 2 --env-arg $settings --total 300 \
    --demos 100 --noise 0.3 --object-error 0.1 --mixtures 30 75 150 --eval-episodes 20 \
    --set learning_rate=0.001 target_period=50 temperature=0.3 disc_updates=2000 "$@"
}
misjudged misjudged "$methods" "max_episode_steps=120 success_terminal=false" --envs metaworld/DoorOpen
misjudged misjudged "$methods" "$meta" --envs metaworld/PickPlace
