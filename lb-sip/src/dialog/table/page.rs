//! Dialogs page by page, in an order that stays while they come and go.

use super::{DialogId, DialogTable};
use crate::dialog::Priority;
use crate::dialog::record::Dialog;
use std::cmp::Reverse;
use std::ops::Bound;
use std::time::Duration;

/// A place in the order of pages: most urgent first, then oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    priority: Reverse<Priority>,
    started: Duration,
    id: DialogId,
}

impl Cursor {
    /// Where a dialog stands.
    pub(super) fn of(id: DialogId, dialog: &Dialog) -> Self {
        Self {
            priority: Reverse(dialog.priority()),
            started: dialog.started(),
            id,
        }
    }

    /// As numbers, for those who keep it elsewhere: of two places, the later has the greater ones.
    pub fn to_words(self) -> [u64; 3] {
        let urgency = Priority::Emergency as u64 - self.priority.0 as u64;
        let started = u64::try_from(self.started.as_nanos()).unwrap_or(u64::MAX);
        [urgency, started, self.id.0]
    }

    /// The place of these numbers, if they are of one.
    pub fn from_words([urgency, started, id]: [u64; 3]) -> Option<Self> {
        let priority = match urgency {
            0 => Priority::Emergency,
            1 => Priority::Urgent,
            2 => Priority::Normal,
            3 => Priority::NonUrgent,
            _ => return None,
        };
        Some(Self {
            priority: Reverse(priority),
            started: Duration::from_nanos(started),
            id: DialogId(id),
        })
    }
}

/// Some dialogs in order.
#[derive(Debug)]
pub struct Page<'a> {
    /// The dialogs.
    pub dialogs: Vec<(DialogId, &'a Dialog)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

impl DialogTable {
    /// Dialogs that are not over, most urgent first and then oldest first, `limit` at most, behind the
    /// place where the last page ended.
    ///
    /// Dialogs may come and go between pages: each that is there all the time is on exactly one.
    pub fn page(&self, after: Option<Cursor>, limit: usize) -> Page<'_> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut places = self.order.range((begin, Bound::Unbounded)).peekable();
        let mut dialogs = Vec::new();
        let mut last = after;
        while dialogs.len() < limit
            && let Some(place) = places.next()
        {
            last = Some(*place);
            dialogs.extend(self.get(place.id).map(|dialog| (place.id, dialog)));
        }
        let next = last.filter(|_| places.peek().is_some());
        Page { dialogs, next }
    }
}
