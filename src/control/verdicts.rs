//! What another configuration's policies mean for the requests that were recorded last.
//! It must not judge; both configurations explain what they would decide.
//! Called by `reload`.

use crate::config::plan;
use crate::explain::{explain, Question};
use crate::observe::recorder::Recorder;
use crate::snapshot::Snapshot;

/// In words; nothing where no request was recorded.
pub(super) fn of(recorder: &Recorder, old: &Snapshot, new: &Snapshot) -> Option<String> {
    let records = recorder.all();
    let questions: Vec<Question> = records.iter().take(MOST).map(Question::recorded).collect();
    let old = |question: &Question| explain(old, question, false);
    let new = |question: &Question| explain(new, question, false);
    let replayed = plan::replay(&questions, old, new);
    (replayed.requests > 0).then(|| format!("policies: {}", replayed.ruled()))
}

/// Requests that are judged again, so that a reload takes hardly longer for them.
const MOST: usize = 500;
