//! Renews the host's own Lease, and ends the term when that fails.

use std::sync::Arc;
use std::time::Duration;

use super::super::fence::Term;
use super::super::record::{Answer, Failure, Role, Write};
use super::{Elector, News, Stage, Trouble};

impl Elector {
    /// `None`: another process owns the Lease of this name.
    pub(super) fn renewal(&mut self, now: Duration) -> Option<Write> {
        let own = self.hosts.own();
        let is_foreign = self.has_written && own.is_some_and(|own| own.acquired_us != self.started_us);
        if is_foreign && !self.hosts.is_own_dead() {
            self.term.iter().for_each(|term| term.end());
            self.expire(now);
            self.report(Some(Trouble::Usurped));
            return None;
        }
        Some(Write {
            role: Role::Host,
            name: self.me.clone(),
            replaces: own.map(|own| own.version.clone()),
            holder: self.me.to_string(),
            transitions: own.map_or(0, |own| own.transitions + i32::from(own.acquired_us != self.started_us)),
            acquired_us: self.started_us,
            duration: Some(self.timing.lease_duration),
            runs: self.runs.clone(),
        })
    }

    pub(super) fn on_renewed(&mut self, sent: Duration, answer: Result<Answer, Failure>, now: Duration) {
        let Some(Answer::Written(record)) = self.success(answer) else { return };
        self.hosts.set_own(record, now);
        self.has_written = true;
        let until = sent + self.timing.renew_deadline;
        match &self.term {
            Some(term) => term.extend(until),
            None if now < until => self.term = Some(Arc::new(Term::new(until))),
            None => {}
        }
    }

    /// Gives up everything once the term is over.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.term.take_if(|term| term.is_over(now)).is_none() {
            return;
        }
        for (slot, (_, stage)) in (0..).zip(&mut self.controllers) {
            match stage {
                Stage::Held { fence, .. } => {
                    fence.end();
                    *stage = Stage::Stopping(None);
                    self.news.push(News::Lost { slot });
                }
                Stage::Stopping(record @ Some(_)) => {
                    *record = None;
                    self.news.push(News::Lost { slot });
                }
                Stage::Free | Stage::Acquiring { .. } | Stage::Stopping(None) | Stage::Releasing => {}
            }
        }
    }
}
