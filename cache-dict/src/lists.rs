//! [`Lists`], doubly linked lists of cells.

/// Several lists over the cells of a shard's table. Each cell stands in one list at most.
/// Everything takes constant time; a cell costs eight bytes.
///
/// The links stand apart from the entries: relinking then touches a few dense cache lines, and
/// a shard that needs no list has none.
pub(crate) struct Lists {
    /// By cell.
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

/// A cell, or a list's head: its number with the top bit set.
type Node = u32;

const HEAD: Node = 1 << 31;
/// The link of a cell that stands in no list.
const NOWHERE: Link = Link {
    previous: Node::MAX,
    next: Node::MAX,
};

impl Lists {
    /// Empty lists over cells of numbers below `cells`.
    pub(crate) fn new(lists: u32, cells: usize) -> Self {
        let mut new = Self {
            links: vec![NOWHERE; cells],
            heads: Vec::new(),
        };
        new.add(lists);
        new
    }

    /// Adds empty lists; returns the number of the first.
    pub(crate) fn add(&mut self, lists: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "nobody adds so many")]
        let first = self.heads.len() as u32;
        self.heads.extend((first..first + lists).map(empty));
        first
    }

    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        let first = self.heads.get(list as usize)?.next;
        (first & HEAD == 0).then_some(first)
    }

    /// Appends a cell, which leaves the list that it stood in.
    pub(crate) fn push_back(&mut self, list: u32, cell: u32) {
        self.unlink(cell);
        let head = list | HEAD;
        let previous = self.link(head).previous;
        *self.link(cell) = Link {
            previous,
            next: head,
        };
        self.link(previous).next = cell;
        self.link(head).previous = cell;
    }

    /// Takes a cell out of the list that it stands in, if any.
    pub(crate) fn unlink(&mut self, cell: u32) {
        let Link { previous, next } = std::mem::replace(self.link(cell), NOWHERE);
        if next != NOWHERE.next {
            self.link(previous).next = next;
            self.link(next).previous = previous;
        }
    }

    /// Moves all of one list to the end of another.
    pub(crate) fn append(&mut self, to: u32, from: u32) {
        let emptied = empty(from);
        let Link {
            previous: last,
            next: first,
        } = std::mem::replace(self.link(from | HEAD), emptied);
        if first & HEAD != 0 {
            return;
        }
        let to = to | HEAD;
        let previous = self.link(to).previous;
        self.link(previous).next = first;
        self.link(first).previous = previous;
        self.link(last).next = to;
        self.link(to).previous = last;
    }

    /// Gives the cells other numbers, those at their old ones in `moved`, and room for `cells`
    /// of them. A cell that is not among them stands in no list.
    pub(crate) fn renumber(&mut self, moved: &[u32], cells: usize) {
        let renumbered = |node: Node| {
            if node & HEAD == 0 {
                moved.get(node as usize).copied().unwrap_or(node)
            } else {
                node
            }
        };
        let link = |link: Link| Link {
            previous: renumbered(link.previous),
            next: renumbered(link.next),
        };
        for head in &mut self.heads {
            *head = link(*head);
        }
        let old = std::mem::replace(&mut self.links, vec![NOWHERE; cells]);
        for (moved, old) in moved.iter().zip(old) {
            if let Some(place) = self.links.get_mut(*moved as usize) {
                *place = link(old);
            }
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "links lead to cells and heads that are there"
    )]
    fn link(&mut self, node: Node) -> &mut Link {
        if node & HEAD == 0 {
            &mut self.links[node as usize]
        } else {
            &mut self.heads[(node & !HEAD) as usize]
        }
    }
}

/// The head of an empty list.
fn empty(list: u32) -> Link {
    Link {
        previous: list | HEAD,
        next: list | HEAD,
    }
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

    fn without(model: &mut [Vec<u32>], cell: u32) {
        for list in model {
            list.retain(|member| *member != cell);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_vectors(steps in proptest::collection::vec((0..4, 0_u32..3, 0_u32..20), 1..200)) {
            let mut lists = Lists::new(3, 20);
            let mut model = vec![Vec::new(); 3];
            for (step, list, cell) in steps {
                match step {
                    0 => {
                        without(&mut model, cell);
                        model[list as usize].push(cell);
                        lists.push_back(list, cell);
                    }
                    1 => {
                        without(&mut model, cell);
                        lists.unlink(cell);
                    }
                    2 => {
                        let to = (list + 1) % 3;
                        let moved = std::mem::take(&mut model[list as usize]);
                        model[to as usize].extend(moved);
                        lists.append(to, list);
                    }
                    _ => {
                        // Backwards, and shifted around.
                        let moved: Vec<u32> = (0..20).map(|old| (39 - old + cell) % 20).collect();
                        for member in model.iter_mut().flatten() {
                            *member = moved[*member as usize];
                        }
                        lists.renumber(&moved, 20);
                    }
                }
                for list in 0..3 {
                    prop_assert_eq!(&lists.members(list), &model[list as usize]);
                    prop_assert_eq!(lists.first(list), model[list as usize].first().copied());
                }
            }
        }
    }
}
