//! An answer that is under way: what of it is still to be told, and the next portion of that.

use super::Calls;
use crate::call::Call;
use crate::call_state::Place;
use crate::call_state::wire::{self, Ending, MOST_PARTS, Request};

/// What is still to be told.
#[derive(Clone, Debug)]
pub(super) enum Rest {
    /// The keys of the calls behind this one.
    Keys(Option<Call>),
    /// Records behind this place, of so many dialogs at most.
    Page(Option<Place>, usize),
    /// The records of these.
    Named(Vec<Call>),
}

/// An answer, but for what was told.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    pub controller: u16,
    pub request: Request,
    /// How many parts there were.
    told: usize,
    rest: Rest,
}

/// Some messages of an answer.
pub(super) struct Portion {
    pub messages: Vec<Vec<u8>>,
    /// More is to come.
    pub is_open: bool,
}

impl Telling {
    /// An answer of which nothing is told.
    pub(super) fn new(controller: u16, request: Request, rest: Rest) -> Self {
        Self {
            controller,
            request,
            told: 0,
            rest,
        }
    }

    /// Tells some more: looks at `most` calls at most.
    ///
    /// An answer of more parts than can be numbered breaks off, and is never whole: at 2,000 calls a part,
    /// one of more than 130 million.
    pub(super) fn go_on(&mut self, calls: &impl Calls, most: usize) -> Portion {
        let (request, first) = (self.request, self.told);
        let (messages, is_open) = match &mut self.rest {
            Rest::Keys(after) => {
                let (keys, next) = calls.keys(*after, most);
                *after = next;
                let is_last = next.is_none();
                (wire::keys_parts(request, first, &keys, is_last), !is_last)
            }
            Rest::Page(after, left) => {
                let limit = most.min(*left);
                let (page, next) = calls.page(*after, limit);
                (*after, *left) = (next, *left - limit);
                let ending = match next {
                    None => Ending::Whole,
                    Some(_) if *left > 0 => Ending::Open,
                    Some(next) => Ending::Page(next),
                };
                let messages = wire::records_parts(request, first, &page, ending);
                (messages, ending == Ending::Open)
            }
            Rest::Named(named) => {
                let later = named.split_off(most.min(named.len()));
                let ending = match later.is_empty() {
                    true => Ending::Whole,
                    false => Ending::Open,
                };
                let now = std::mem::replace(named, later);
                let found = calls.records_of(&now);
                let messages = wire::records_parts(request, first, &found, ending);
                (messages, ending == Ending::Open)
            }
        };
        self.told += messages.len();
        if self.told > MOST_PARTS {
            return Portion {
                messages: Vec::new(),
                is_open: false,
            };
        }
        Portion { messages, is_open }
    }
}
