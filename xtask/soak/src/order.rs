//! Contradictions between claims on the content of a register.

/// That the register held something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who says so, in words.
    pub(crate) text: &'static str,
    /// Positions of the events that say so.
    pub(crate) proof: Vec<usize>,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// It was the content all the time between these two moments.
    Throughout(u64, u64),
    /// It was the content at some moment between these two.
    Sometime(u64, u64),
}

impl Claim {
    pub(crate) fn at_some_moment(at: usize, text: &'static str, start: u64, end: u64) -> Self {
        Self {
            text,
            proof: vec![at],
            span: Span::Sometime(start, end),
        }
    }

    /// What is known of a value that was read: `(position, start, applied)` of its write, the
    /// start being `None` if it is before all that is looked at; and `(position, start, end)` of
    /// each read. Nothing if there are no reads.
    pub(crate) fn value(
        write: (usize, Option<u64>, u64),
        reads: impl Iterator<Item = (usize, u64, u64)>,
    ) -> Option<Self> {
        let (by, started, applied) = write;
        // The first call to end, and the last to start: the value was there in between.
        let (mut first, mut last) = ((applied, by), (started.unwrap_or(0), by));
        let mut any = false;
        for (at, start, end) in reads {
            any = true;
            first = first.min((end, at));
            last = last.max((start, at));
        }
        if !any {
            return None;
        }
        let mut proof = vec![by, first.1, last.1];
        proof.sort_unstable();
        proof.dedup();
        Some(if first.0 < last.0 {
            Self {
                text: "a value that was there from its write or one read to another read",
                proof,
                span: Span::Throughout(first.0, last.0),
            }
        } else {
            Self {
                text: "a value that was written and read",
                proof,
                span: Span::Sometime(last.0, first.0),
            }
        })
    }
}

/// Pairs of claims that cannot both be true, one for each claim at most.
pub(crate) fn contradictions(claims: &[Claim]) -> Vec<(&Claim, &Claim)> {
    let mut throughout: Vec<(u64, u64, &Claim)> = claims
        .iter()
        .filter_map(|claim| match claim.span {
            Span::Throughout(from, to) => Some((from, to, claim)),
            Span::Sometime(..) => None,
        })
        .collect();
    throughout.sort_by_key(|(from, ..)| *from);
    let mut found = Vec::new();

    // Two values cannot both be there. `longest[i]` is the one among the first i + 1 that ends last.
    let mut longest: Vec<(u64, u64, &Claim)> = Vec::with_capacity(throughout.len());
    for (from, to, claim) in &throughout {
        match longest.last() {
            Some((_, end, other)) if from < end => {
                found.push((*other, *claim));
                let keep = if *end >= *to {
                    longest.last().copied()
                } else {
                    None
                };
                longest.push(keep.unwrap_or((*from, *to, claim)));
            }
            _ => longest.push((*from, *to, claim)),
        }
    }

    // Nothing else can be there for a moment, neither.
    for claim in claims {
        let Span::Sometime(from, to) = claim.span else {
            continue;
        };
        let before = throughout.partition_point(|(begin, ..)| *begin < from);
        if let Some((_, end, other)) = before.checked_sub(1).and_then(|at| longest.get(at))
            && to < *end
        {
            found.push((*other, claim));
        }
    }
    found
}
