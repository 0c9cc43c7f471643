//! Every value of `Seen`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::plan::{
    Blocked,
    version::{Deletion, Liveness, Record, Release, Rest, Seen, Sight, Step, next},
};

use crate::explore::{Broken, law};

const YES_NO: [bool; 2] = [false, true];

/// Holds the laws for every value and counts them.
pub fn every_seen() -> usize {
    let (deletions, sights) = (deletions(), sights());
    let mut count = 0;
    for &deleting in &deletions {
        for &sight in &sights {
            for record in RECORDS {
                for flags in 0..64u8 {
                    let flag = |bit: u8| flags & (1 << bit) != 0;
                    let seen = Seen {
                        suspended: flag(0),
                        finalizer: flag(1),
                        conflict: flag(2),
                        rival: flag(3),
                        recreate: flag(4),
                        held: flag(5),
                        deleting,
                        record,
                        sight,
                    };
                    count += 1;
                    if let Err(broken) = holds(&seen) {
                        panic!("{broken}: {seen:?} leads to {:?}", next(&seen));
                    }
                }
            }
        }
    }
    count
}

const RECORDS: [Record; 6] =
    [Record::Nothing, Record::Fresh, Record::Open, Record::Searching, Record::Searched, Record::Known];

fn sights() -> Vec<Sight> {
    let mut sights = vec![
        Sight::NotAsked,
        Sight::Present,
        Sight::Young,
        Sight::Absent,
        Sight::Nobody,
        Sight::One,
        Sight::Going,
        Sight::Many,
        Sight::Unclear,
        Sight::AdoptMissing,
        Sight::AdoptForeign,
    ];
    sights.extend(Blocked::ALL.map(Sight::Blocked));
    sights
}

fn deletions() -> Vec<Option<Deletion>> {
    let mut deletions = vec![None];
    for live in [Liveness::Idle, Liveness::Offered, Liveness::Taken, Liveness::Alone, Liveness::Unknowable] {
        for delete in YES_NO {
            for forced in YES_NO {
                for (overdue, sent, trusted) in triples() {
                    deletions.push(Some(Deletion { delete, forced, overdue, sent, trusted, live }));
                }
            }
        }
    }
    deletions
}

fn triples() -> impl Iterator<Item = (bool, bool, bool)> {
    (0..8u8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
}

/// Whether record and sight can be seen together: only a known version is present, young or absent, and
/// only an unknown one is looked for.
fn is_possible(seen: &Seen) -> bool {
    match seen.sight {
        Sight::NotAsked | Sight::Blocked(_) => true,
        Sight::Present | Sight::Young | Sight::Absent => seen.record == Record::Known,
        _ => seen.record != Record::Known,
    }
}

fn holds(seen: &Seen) -> Result<(), Broken> {
    let step = next(seen);
    let changes = matches!(step, Step::Create | Step::Delete);
    let decides = changes || matches!(step, Step::Intend | Step::Search | Step::Adopt);
    let blind = matches!(seen.sight, Sight::NotAsked | Sight::Blocked(_));
    law!(!decides || seen.finalizer, "something is decided without the finalizer");
    law!(
        !decides || !(seen.suspended || seen.conflict || blind),
        "something is decided while suspended, in conflict or without a look"
    );
    law!(!seen.held || !(changes || step == Step::Intend), "a change begins while held");
    law!(next(seen) == step, "the step is not a function of what is seen");
    match seen.deleting {
        None => holds_in_life(seen, step),
        Some(deletion) => holds_in_deletion(seen, deletion, step),
    }
}

fn holds_in_life(seen: &Seen, step: Step) -> Result<(), Broken> {
    law!(!matches!(step, Step::Delete | Step::Release(_)), "deleted or let go though nobody asked");
    match step {
        Step::Create => law!(
            seen.record == Record::Fresh && matches!(seen.sight, Sight::Nobody | Sight::Unclear),
            "a create without a fresh intent or without having found nobody"
        ),
        Step::Intend if is_possible(seen) => law!(
            matches!(seen.record, Record::Nothing | Record::Searched)
                && matches!(seen.sight, Sight::Nobody | Sight::Unclear)
                || seen.sight == Sight::Absent && seen.recreate,
            "an intent though a version is known or a create may be out"
        ),
        Step::Search => law!(seen.record == Record::Open, "a search without an open intent"),
        Step::Adopt => law!(seen.sight == Sight::One, "not one version is adopted"),
        Step::Guard => law!(!seen.finalizer, "the finalizer is there already"),
        Step::Rest(Rest::Ready) => {
            law!(seen.sight == Sight::Present, "Ready without the version");
        }
        _ => {}
    }
    Ok(())
}

fn holds_in_deletion(seen: &Seen, deletion: Deletion, step: Step) -> Result<(), Broken> {
    law!(
        !matches!(step, Step::Create | Step::Intend | Step::Guard),
        "something begins though the object is being deleted"
    );
    law!(!matches!(step, Step::Rest(Rest::Ready)), "Ready while being deleted");
    match step {
        Step::Delete => law!(
            seen.record == Record::Known
                && seen.sight == Sight::Present
                && deletion.live == Liveness::Idle
                && deletion.delete
                && !deletion.forced
                && !deletion.sent,
            "deleted though it is not there, live, retained, forced or deleted already"
        ),
        Step::Release(why) => {
            law!(seen.finalizer, "let go twice");
            let allowed = match why {
                Release::Forced => deletion.forced,
                Release::Retained => seen.suspended || !deletion.delete,
                Release::NotOurs => seen.conflict,
                Release::Proven => {
                    deletion.trusted
                        && !matches!(seen.sight, Sight::Present | Sight::Blocked(_))
                        && (seen.sight != Sight::Young || deletion.sent)
                }
                Release::NeverCreated => {
                    matches!(seen.record, Record::Nothing | Record::Fresh | Record::Searched)
                }
                Release::HandedOver => deletion.live == Liveness::Taken,
                Release::LeftLive => {
                    matches!(deletion.live, Liveness::Alone | Liveness::Unknowable)
                }
                Release::LeftBehind => deletion.overdue && seen.sight != Sight::Present,
            };
            law!(allowed, "let go without cause");
        }
        _ => {}
    }
    Ok(())
}
