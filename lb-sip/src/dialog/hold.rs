//! Who holds whom: policy over offer and answer (RFC 3264 §6.1, §8.4).

use super::{Media, Side};

/// Who holds the other: the caller, the callee.
pub type Holding = [bool; 2];

/// Who holds after an offer and its answer.
///
/// The offerer holds if it wants to hear nothing. The answerer holds if it was asked to speak and
/// listen, or to listen, and will not listen; if the offer asked it for neither, its answer says
/// nothing, and what it did before stands.
pub fn after(before: Holding, offerer: Side, offer: Media, answer: Media) -> Holding {
    let mut holding = before;
    holding[offerer.index()] = is_deaf(offer);
    holding[offerer.other().index()] = match offer {
        Media::SendRecv | Media::SendOnly => is_deaf(answer),
        Media::RecvOnly | Media::Inactive => before[offerer.other().index()],
    };
    holding
}

const fn is_deaf(media: Media) -> bool {
    match media {
        Media::SendOnly | Media::Inactive => true,
        Media::SendRecv | Media::RecvOnly => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Media::{Inactive, RecvOnly, SendOnly, SendRecv};

    const NOBODY: Holding = [false, false];
    const CALLER: Holding = [true, false];
    const CALLEE: Holding = [false, true];
    const BOTH: Holding = [true, true];

    #[test]
    fn every_permitted_offer_and_answer() {
        // §6.1: the answers that each offer permits.
        let rows = [
            (NOBODY, SendRecv, SendRecv, NOBODY),
            (BOTH, SendRecv, SendRecv, NOBODY),
            (NOBODY, SendRecv, SendOnly, CALLEE),
            (NOBODY, SendRecv, RecvOnly, NOBODY),
            (NOBODY, SendRecv, Inactive, CALLEE),
            (NOBODY, SendOnly, RecvOnly, CALLER),
            (NOBODY, SendOnly, Inactive, BOTH),
            (CALLER, RecvOnly, SendOnly, NOBODY),
            (BOTH, RecvOnly, SendOnly, CALLEE),
            (CALLEE, RecvOnly, Inactive, CALLEE),
            (NOBODY, Inactive, Inactive, CALLER),
            (CALLEE, Inactive, Inactive, BOTH),
        ];
        for (before, offer, answer, expected) in rows {
            assert_eq!(
                after(before, Side::Caller, offer, answer),
                expected,
                "{before:?} {offer:?} {answer:?}"
            );
            let mirrored = |[caller, callee]: Holding| [callee, caller];
            assert_eq!(
                after(mirrored(before), Side::Callee, offer, answer),
                mirrored(expected)
            );
        }
    }
}
