//! Access to the backend within a wrapper.

/// `get_ref` and `into_inner` of a wrapper with a field `backend`.
macro_rules! access {
    ($wrapper:ident<$($parameter:ident),+>) => {
        impl<$($parameter),+> $wrapper<$($parameter),+> {
            /// Returns the wrapped backend, for methods of its own, such as statistics.
            pub fn get_ref(&self) -> &B {
                &self.backend
            }

            /// Returns the wrapped backend and discards the wrapper.
            pub fn into_inner(self) -> B {
                self.backend
            }
        }
    };
}

pub(crate) use access;
