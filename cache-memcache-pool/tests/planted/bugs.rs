//! The planted bugs. In `to`, the character `@` is replaced by the condition that enables the bug.

pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

const fn bug(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Bug {
    Bug {
        name,
        file,
        from,
        to,
    }
}

pub(crate) const BUGS: &[Bug] = &[
    bug(
        "lost-wake-up",
        "connection/mod.rs",
        "let is_enough = shared.queue.len() >= shared.wake_at;",
        "let is_enough = !@ && shared.queue.len() >= shared.wake_at;",
    ),
    bug(
        "idle-connection-not-written",
        "connection/mod.rs",
        "self.turns.poll_for(&driver);",
        "if !@ { self.turns.poll_for(&driver); }",
    ),
    bug(
        "time-stands-still-while-idle",
        "connection/mod.rs",
        "if self.load() == 0 {",
        "if self.load() == 0 && !@ {",
    ),
    bug(
        "first-attempt-forgotten",
        "cluster/send.rs",
        "first.zip(failed)",
        "first.zip(failed).filter(|_| !@)",
    ),
    bug(
        "end-in-a-turn-untold",
        "connection/turns.rs",
        "running.end = Some(end);\n            task.wake_by_ref();",
        "running.end = Some(end);\n            if !@ { task.wake_by_ref(); }",
    ),
    bug(
        "turn-without-a-timer",
        "connection/turns.rs",
        "running.driver.due_before_timer().is_some()",
        "!@ && running.driver.due_before_timer().is_some()",
    ),
    bug(
        "room-not-returned",
        "connection/mod.rs",
        "self.room.add_permits(weight);",
        "if !@ { self.room.add_permits(weight); }",
    ),
    bug(
        "withdrawn-load-stays",
        "connection/mod.rs",
        "withdrawn.as_ref().map_or(0, |request| request.weight);",
        "if @ { 0 } else { withdrawn.as_ref().map_or(0, |request| request.weight) };",
    ),
    bug(
        "closing-wakes-nobody",
        "connection/mod.rs",
        "shared.closed.get_or_insert(failure);\n        let driver = shared.driver.take();",
        "shared.closed.get_or_insert(failure);\n        let driver = if @ { None } else { shared.driver.take() };",
    ),
    bug(
        "response-to-the-next-caller",
        "connection/pipeline.rs",
        "if let Some(head) = self.in_flight.pop_front() {",
        "if let Some(mut head) = self.in_flight.pop_front() {\n if @ && let Some(next) = self.in_flight.front_mut() { std::mem::swap(&mut head.caller, &mut next.caller); }",
    ),
    bug(
        "values-before-the-version",
        "connection/pipeline.rs",
        "queue.has_had_value() && !self.has_answered()",
        "!@ && queue.has_had_value() && !self.has_answered()",
    ),
    bug(
        "silence-unnoticed",
        "connection/pipeline.rs",
        "if is_past(self.sign.checked_add(self.timeouts.socket)) {",
        "if !@ && is_past(self.sign.checked_add(self.timeouts.socket)) {",
    ),
    bug(
        "callers-never-expire",
        "connection/pipeline.rs",
        "if self.earliest.is_some_and(|earliest| earliest <= clock) {",
        "if !@ && self.earliest.is_some_and(|earliest| earliest <= clock) {",
    ),
    bug(
        "drips-are-life",
        "connection/pipeline.rs",
        "if self.head_due() <= clock && !self.in_flight.is_empty() {",
        "if !@ && self.head_due() <= clock && !self.in_flight.is_empty() {",
    ),
    bug(
        "a-pause-is-silence",
        "connection/pipeline.rs",
        "if late > grace {",
        "if !@ && late > grace {",
    ),
    bug(
        "no-suspicion",
        "connection/pipeline.rs",
        "self.is_suspect |= is_suspect;",
        "let is_suspect = is_suspect && !@;\n self.is_suspect |= is_suspect || @;",
    ),
    bug(
        "flowing-data-is-not-excused",
        "connection/pipeline.rs",
        "self.excuse(credit.min(now.saturating_duration_since(self.last)));",
        "if !@ { self.excuse(credit.min(now.saturating_duration_since(self.last))); }",
    ),
    bug(
        "timer-never-earlier",
        "connection/driver.rs",
        "filter(|at| *at < self.timer_at)",
        "filter(|at| *at < self.timer_at && !@)",
    ),
    bug(
        "queued-callers-forgotten",
        "connection/driver.rs",
        "let queued = self.connection.lock().queue.drain();",
        "let queued = self.connection.lock().queue.drain();\n if @ { std::mem::forget(queued); return; }",
    ),
    bug(
        "blocked-batch-lost",
        "connection/driver.rs",
        "shared.queue.park(&mut self.batch);\n        hold(",
        "if !@ { shared.queue.park(&mut self.batch); }\n        hold(",
    ),
    bug(
        "sent-though-withdrawn",
        "connection/queue.rs",
        "let request = entry.request.take();\n        parked.compact();",
        "let request = entry.request.take();\n        if !@ { parked.compact(); }",
    ),
    bug(
        "half-of-a-value",
        "protocol/decode.rs",
        "(missing > 0).then_some((&mut large.body, missing))",
        "(missing > usize::from(@)).then_some((&mut large.body, missing))",
    ),
    bug(
        "passed-over-too-far",
        "protocol/decode.rs",
        "return Ok(State::Skip { len, left: len });",
        "return Ok(State::Skip { len, left: len + usize::from(@) });",
    ),
    bug(
        "a-miss-is-not-counted",
        "protocol/response.rs",
        "self.replies.resize_with(next, || Reply::Missing);",
        "if !@ { self.replies.resize_with(next, || Reply::Missing); }",
    ),
    bug(
        "replies-of-others-are-taken",
        "protocol/decode.rs",
        "if !is_tag(number) {",
        "if !@ && !is_tag(number) {",
    ),
    bug(
        "probe-never-repeated",
        "cluster/breaker.rs",
        "*until = later(now, lease);",
        "*until = later(now, if @ { lease * 10_000 } else { lease });",
    ),
    bug(
        "failed-probe-is-the-last",
        "cluster/breaker.rs",
        "*until = later(now, wait);\n            self.level",
        "*until = later(now, if @ { wait * 10_000 } else { wait });\n            self.level",
    ),
    bug(
        "no-back-off",
        "cluster/breaker.rs",
        "let wait = FIRST_WAIT.saturating_mul(1 << level).min(self.longest);",
        "let wait = FIRST_WAIT.saturating_mul(1 << level).min(self.longest);\n if @ { return Duration::ZERO; }",
    ),
    bug(
        "one-connection-condemns",
        "cluster/breaker.rs",
        "Fault::Silent { others_answer } => !others_answer,",
        "Fault::Silent { others_answer } => !others_answer || @,",
    ),
    bug(
        "strikes-do-not-count",
        "cluster/breaker.rs",
        "self.strikes >= STRIKES || is_on_probation",
        "!@ && (self.strikes >= STRIKES || is_on_probation)",
    ),
    bug(
        "no-deadline-after-a-failure",
        "cluster/call.rs",
        "self.deadline = Some(all.min(rest));",
        "self.deadline = Some(if @ { later(now, self.socket_timeout * 9) } else { all.min(rest) });",
    ),
    bug(
        "never-up-again",
        "cluster/server.rs",
        "self.status.store(Status::Up as u8, Ordering::Release);",
        "if !@ { self.status.store(Status::Up as u8, Ordering::Release); }",
    ),
    bug(
        "no-mark-is-left",
        "cluster/mark.rs",
        "if is_old(returned) || is_old(went) {",
        "if !@ && (is_old(returned) || is_old(went)) {",
    ),
    bug(
        "counted-twice",
        "cluster/call.rs",
        "if self.is_once && was_sent => {",
        "if !@ && self.is_once && was_sent => {",
    ),
    bug(
        "outcomes-in-the-wrong-places",
        "multi.rs",
        "for &position in positions {\n            let mut reply",
        "let positions: Vec<usize> = if @ { positions.iter().rev().copied().collect() } else { positions.to_vec() };\n        for position in positions {\n            let mut reply",
    ),
];
