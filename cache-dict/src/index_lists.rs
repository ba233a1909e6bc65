//! [`IndexLists`], doubly linked lists of slots.

/// Several lists of slots. A slot is in at most one list, and every operation takes constant time.
///
/// The heads are kept here. The caller keeps the links between the members in a [`LinkStore`]: in
/// the slots themselves, or beside them.
pub(crate) struct IndexLists {
    /// By list. A ring through the members of the list begins and ends at its head, so that no
    /// member is a special case.
    heads: Vec<Links>,
}

/// Stores the links of each slot.
pub(crate) trait LinkStore {
    fn links(&mut self, slot: u32) -> &mut Links;
}

/// The neighbors of a slot in its list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Links {
    previous: Node,
    next: Node,
}

/// A slot, or a list's head: its number with the top bit set.
type Node = u32;

const HEAD: Node = 1 << 31;

impl Links {
    /// The links of a slot that is in no list.
    pub(crate) const NONE: Self = Self {
        previous: Node::MAX,
        next: Node::MAX,
    };

    /// The links of the head of an empty list.
    fn of_head(list: u32) -> Self {
        Self {
            previous: list | HEAD,
            next: list | HEAD,
        }
    }
}

/// The new number of each slot, by its old number.
pub(crate) struct Moved(pub(crate) Vec<u32>);

impl Moved {
    /// The new number of a slot that was free, to which nothing refers.
    pub(crate) const FREE: u32 = u32::MAX;

    /// Replaces old numbers in the links with new ones.
    #[inline]
    pub(crate) fn renumber(&self, links: &mut Links) {
        for node in [&mut links.previous, &mut links.next] {
            if *node & HEAD == 0
                && let Some(to) = self.0.get(*node as usize)
            {
                *node = *to;
            }
        }
    }

    /// Does the same for links that are kept by slot, and makes room for `slots` of them.
    pub(crate) fn renumber_all(&self, links: &mut Vec<Links>, slots: usize) {
        let old = std::mem::replace(links, vec![Links::NONE; slots]);
        for (mut old, to) in old.into_iter().zip(&self.0) {
            self.renumber(&mut old);
            if let Some(place) = links.get_mut(*to as usize) {
                *place = old;
            }
        }
    }
}

impl LinkStore for Vec<Links> {
    #[expect(
        clippy::indexing_slicing,
        reason = "such a vector has an element for each slot"
    )]
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self[slot as usize]
    }
}

impl IndexLists {
    /// Creates empty lists, numbered from zero.
    pub(crate) fn new(lists: u32) -> Self {
        let mut new = Self { heads: Vec::new() };
        new.add(lists);
        new
    }

    /// Adds empty lists. Returns the number of the first.
    pub(crate) fn add(&mut self, lists: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "there are few lists")]
        let first = self.heads.len() as u32;
        self.heads
            .extend((first..first + lists).map(Links::of_head));
        first
    }

    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        self.ends(list).map(|(first, _)| first)
    }

    /// The first and the last member.
    pub(crate) fn ends(&self, list: u32) -> Option<(u32, u32)> {
        let Links { previous, next } = *self.heads.get(list as usize)?;
        (next & HEAD == 0).then_some((next, previous))
    }

    /// Appends a slot to a list, and removes it from the list that it was in.
    pub(crate) fn push_back(&mut self, store: &mut impl LinkStore, list: u32, slot: u32) {
        self.unlink(store, slot);
        let head = list | HEAD;
        let previous = self.links(store, head).previous;
        *self.links(store, slot) = Links {
            previous,
            next: head,
        };
        self.links(store, previous).next = slot;
        self.links(store, head).previous = slot;
    }

    /// Removes a slot from the list that it is in, if any.
    pub(crate) fn unlink(&mut self, store: &mut impl LinkStore, slot: u32) {
        let links = std::mem::replace(self.links(store, slot), Links::NONE);
        if links != Links::NONE {
            self.links(store, links.previous).next = links.next;
            self.links(store, links.next).previous = links.previous;
        }
    }

    /// Applies the new numbers of slots to the heads. The owner of the [`LinkStore`]
    /// [renumbers](Moved::renumber) the links of the slots.
    pub(crate) fn renumber(&mut self, moved: &Moved) {
        for head in &mut self.heads {
            moved.renumber(head);
        }
    }

    /// Moves all members of one list to the end of another.
    pub(crate) fn append(&mut self, store: &mut impl LinkStore, to: u32, from: u32) {
        let emptied = Links::of_head(from);
        let Links {
            previous: last,
            next: first,
        } = std::mem::replace(self.links(store, from | HEAD), emptied);
        if first & HEAD != 0 {
            return;
        }
        let to = to | HEAD;
        let previous = self.links(store, to).previous;
        self.links(store, previous).next = first;
        self.links(store, first).previous = previous;
        self.links(store, last).next = to;
        self.links(store, to).previous = last;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the numbers of lists come from `new` and `add`"
    )]
    fn links<'a>(&'a mut self, store: &'a mut impl LinkStore, node: Node) -> &'a mut Links {
        if node & HEAD == 0 {
            store.links(node)
        } else {
            &mut self.heads[(node & !HEAD) as usize]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::cases;

    impl IndexLists {
        fn members(&mut self, store: &mut Vec<Links>, list: u32) -> Vec<u32> {
            let mut members = Vec::new();
            let mut node = self.links(store, list | HEAD).next;
            while node & HEAD == 0 {
                members.push(node);
                let next = self.links(store, node).next;
                assert_eq!(self.links(store, next).previous, node);
                node = next;
            }
            assert_eq!(node, list | HEAD);
            members
        }
    }

    fn without(model: &mut [Vec<u32>], slot: u32) {
        for list in model {
            list.retain(|member| *member != slot);
        }
    }

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn behaves_like_vectors(steps in proptest::collection::vec((0..4, 0_u32..3, 0_u32..20), 1..200)) {
            let mut lists = IndexLists::new(3);
            let mut store = vec![Links::NONE; 20];
            let mut model = vec![Vec::new(); 3];
            for (step, list, slot) in steps {
                match step {
                    0 => {
                        without(&mut model, slot);
                        model[list as usize].push(slot);
                        lists.push_back(&mut store, list, slot);
                    }
                    1 => {
                        without(&mut model, slot);
                        lists.unlink(&mut store, slot);
                    }
                    2 => {
                        let to = (list + 1) % 3;
                        let moved = std::mem::take(&mut model[list as usize]);
                        model[to as usize].extend(moved);
                        lists.append(&mut store, to, list);
                    }
                    _ => {
                        // Backwards, and shifted around.
                        let moved = Moved((0..20).map(|old| (39 - old + slot) % 20).collect());
                        for member in model.iter_mut().flatten() {
                            *member = moved.0[*member as usize];
                        }
                        moved.renumber_all(&mut store, 20);
                        lists.renumber(&moved);
                    }
                }
                for list in 0..3 {
                    prop_assert_eq!(&lists.members(&mut store, list), &model[list as usize]);
                    let model = &model[list as usize];
                    let ends = model.first().copied().zip(model.last().copied());
                    prop_assert_eq!(lists.ends(list), ends);
                    prop_assert_eq!(lists.first(list), ends.map(|(first, _)| first));
                }
            }
        }
    }
}
