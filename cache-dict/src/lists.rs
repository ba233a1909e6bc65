//! [`Lists`], doubly linked lists of slots.

/// Several lists over the slots of a shard. Each slot stands in one list at most. Everything
/// takes constant time; a slot costs eight bytes.
///
/// The links stand apart from the entries: relinking then touches a few dense cache lines, and
/// a shard that needs no list has none.
pub(crate) struct Lists {
    /// By slot.
    links: Vec<Link>,
    /// By list: a ring through the list's members begins and ends here, so that none of them
    /// is a special case.
    heads: Vec<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    previous: Node,
    next: Node,
}

/// A slot, or a list's head: its number with the top bit set.
type Node = u32;

const HEAD: Node = 1 << 31;
const NOWHERE: Link = Link {
    previous: Node::MAX,
    next: Node::MAX,
};

impl Lists {
    pub(crate) fn new(lists: u32) -> Self {
        let mut new = Self {
            links: Vec::new(),
            heads: Vec::new(),
        };
        new.add(lists);
        new
    }

    /// Adds empty lists; returns the number of the first.
    pub(crate) fn add(&mut self, lists: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "nobody adds so many")]
        let first = self.heads.len() as u32;
        self.heads.extend((first..first + lists).map(|list| Link {
            previous: list | HEAD,
            next: list | HEAD,
        }));
        first
    }

    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        let first = self.heads.get(list as usize)?.next;
        (first & HEAD == 0).then_some(first)
    }

    /// Appends a slot, which leaves the list that it stood in.
    pub(crate) fn push_back(&mut self, list: u32, slot: u32) {
        if self.links.len() <= slot as usize {
            grow(&mut self.links, slot as usize + 1);
        }
        self.unlink(slot);
        let head = list | HEAD;
        let previous = self.link(head).previous;
        *self.link(slot) = Link {
            previous,
            next: head,
        };
        self.link(previous).next = slot;
        self.link(head).previous = slot;
    }

    /// Takes a slot out of the list that it stands in, if any.
    pub(crate) fn unlink(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else {
            return;
        };
        let Link { previous, next } = std::mem::replace(link, NOWHERE);
        if next != NOWHERE.next {
            self.link(previous).next = next;
            self.link(next).previous = previous;
        }
    }

    /// Moves all of one list to the end of another.
    pub(crate) fn append(&mut self, to: u32, from: u32) {
        let (to, from) = (to | HEAD, from | HEAD);
        let Link {
            previous: last,
            next: first,
        } = *self.link(from);
        if first == from {
            return;
        }
        *self.link(from) = Link {
            previous: from,
            next: from,
        };
        let previous = self.link(to).previous;
        self.link(previous).next = first;
        self.link(first).previous = previous;
        self.link(last).next = to;
        self.link(to).previous = last;
    }

    /// Follows [`Vec::swap_remove`] of the entries: `slot` is gone, and what was in the last
    /// slot is now there.
    pub(crate) fn swap_remove(&mut self, slot: u32, last: u32) {
        self.unlink(slot);
        if let Some(&moved) = self.links.get(last as usize) {
            self.links.truncate(last as usize);
            if slot != last && moved.next != NOWHERE.next {
                *self.link(slot) = moved;
                self.link(moved.previous).next = slot;
                self.link(moved.next).previous = slot;
            }
            crate::shard::give_back(&mut self.links);
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "links lead to slots and heads that are there"
    )]
    fn link(&mut self, node: Node) -> &mut Link {
        if node & HEAD == 0 {
            &mut self.links[node as usize]
        } else {
            &mut self.heads[(node & !HEAD) as usize]
        }
    }
}

fn grow(links: &mut Vec<Link>, len: usize) {
    crate::shard::make_room(links, len - links.len());
    links.resize(len, NOWHERE);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Lists {
        fn members(&mut self, list: u32) -> Vec<u32> {
            let mut members = Vec::new();
            let mut node = self.link(list | HEAD).next;
            while node & HEAD == 0 {
                members.push(node);
                let next = self.link(node).next;
                assert_eq!(self.link(next).previous, node);
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
        #[test]
        fn behaves_like_vectors(steps in proptest::collection::vec((0..4, 0_u32..3, 0_u32..20), 1..200)) {
            let mut lists = Lists::new(3);
            let mut model = vec![Vec::new(); 3];
            let mut slots = 20_u32;
            for (step, list, slot) in steps {
                match step {
                    0 if slot < slots => {
                        without(&mut model, slot);
                        model[list as usize].push(slot);
                        lists.push_back(list, slot);
                    }
                    1 if slot < slots => {
                        without(&mut model, slot);
                        lists.unlink(slot);
                    }
                    2 => {
                        let to = (list + 1) % 3;
                        let moved = std::mem::take(&mut model[list as usize]);
                        model[to as usize].extend(moved);
                        lists.append(to, list);
                    }
                    3 if slot < slots => {
                        slots -= 1;
                        for list in &mut model {
                            list.retain(|member| *member != slot);
                            list.iter_mut().filter(|member| **member == slots).for_each(|member| *member = slot);
                        }
                        lists.swap_remove(slot, slots);
                    }
                    _ => {}
                }
                for list in 0..3 {
                    prop_assert_eq!(&lists.members(list), &model[list as usize]);
                    prop_assert_eq!(lists.first(list), model[list as usize].first().copied());
                }
            }
        }
    }
}
