# For scripts that need real data. Sourced from the repository's root, as `. dev/repro/real_data.sh`.
#
#     train=$(real imdb/train.jsonl)      # under `set -e` a file that is missing or wrong ends the script
#
# prints the path of a file of the real data whose size and sha256 are those of data/fetch.sha256, or
# says in one sentence on stderr what is wrong and how to fetch it, exit code not 0. (Keep to the
# form above: of `program --dataset "$(real ..)"` the shell forgets the exit code.) The data is in
# the folder $ALIGN_DATA, or else in data/real, where `sh data/fetch.sh` puts it. A file that is there
# as FILE.gz is unpacked to $OUT/real/FILE; OUT is the script's own folder of results. Checking all of
# IMDb takes a second. Data of the folder for tests: ALIGN_DATA=$ALIGN_TEST_DATA/data.
real() {
    sh data/fetch.sh --output "${ALIGN_DATA:-data/real}" --path "$1" --unpack "${OUT:-out}/real"
}
