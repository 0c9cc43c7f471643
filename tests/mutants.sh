#!/usr/bin/env bash
# Breaks the plan on purpose, one way at a time, in a copy, and shows that the walk notices each: `make mutants`.
# Takes about a minute per mutant, most of it compiling.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# what is built already is used
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
copy=$CARGO_TARGET_DIR/mutants
total=0 survived=0

walk() { (cd "$copy" && cargo test --quiet --locked --test walk >log 2>&1); }

# NAME FILE FROM TO: the text FROM, which is in FILE once, becomes TO, and the walk must fail.
mutant() {
    local name=$1 file=$2 from=$3 to=$4 text said
    text=$(<"$copy/$file")
    [[ ${text/"$from"/} != "$text" ]] || { echo "not found in $file: $from" >&2; exit 1; }
    printf '%s\n' "${text/"$from"/"$to"}" >"$copy/$file"
    total=$((total + 1))
    if walk; then
        said='NOTHING: it survived' survived=$((survived + 1))
    elif ! said=$(grep -m1 -A1 'panicked at' "$copy/log" | tail -1); then
        cat "$copy/log" >&2
        exit 1
    fi
    printf '%-44s %s\n' "$name" "${said:0:100}"
    printf '%s\n' "$text" >"$copy/$file"
}

mkdir -p "$copy"
# with their times, so that what did not change is not compiled again
git ls-files -z | xargs -0 cp --parents --preserve=timestamps --target-directory "$copy"
walk || { cat "$copy/log" >&2; echo 'the walk fails without any mutant' >&2; exit 1; }
printf '%-44s %s\n' 'a plan that ...' 'the walk says'

mutant 'creates without an intent' src/plan/version/mod.rs \
    'Record::Searched | Record::Known => Step::Intend,' 'Record::Searched | Record::Known => Step::Create,'
mutant 'forgets a create whose end is unknown' src/plan/version/mod.rs \
    'Record::Open => Step::Search,' 'Record::Open => Step::Intend,'
mutant 'does not wait for a late list' src/plan/version/facts.rs \
    'self.searched > self.rules.visibility_grace' 'true'
mutant 'deletes a live version' src/plan/version/mod.rs \
    'Step::Release(Release::LeftLive)' 'Step::Delete'
mutant 'lets go of a version that is still there' src/plan/version/mod.rs \
    'Liveness::Idle if deletion.sent => wait' 'Liveness::Idle if deletion.sent => Step::Release(Release::Proven)'
mutant 'creates anew what was lost' src/plan/version/mod.rs \
    '(Sight::Absent, _) => Step::Rest(Rest::Lost)' '(Sight::Absent, _) => Step::Intend'
mutant 'is Ready while another version runs' src/plan/deployment/mod.rs \
    'Step::Rest(Rest::Fought)' 'Step::Rest(Rest::Ready)'
mutant 'trusts a rollback that shows no effect' src/plan/deployment/facts.rs \
    'call == Call::Rollback && over(at) => Operation::Vain' 'call == Call::Rollback && over(at) => Operation::Called(call)'
mutant 'retires a version that still runs' src/plan/deployment/facts.rs \
    '!busy.contains(&entry.version_id)' 'true'
mutant 'is Ready while it is being deleted' src/plan/version/tell.rs \
    'self.object.metadata.deletion_timestamp.is_some() && words.reason != Reason::Deleting' 'false'

((survived == 0)) || { echo "$survived of $total mutants survived" >&2; exit 1; }
echo "all $total mutants were noticed"
