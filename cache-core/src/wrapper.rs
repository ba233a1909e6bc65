//! What every wrapper offers: the backend within.

/// `get_ref` and `into_inner` of a wrapper with a field `backend`.
macro_rules! access {
    ($wrapper:ident<$($parameter:ident),+>) => {
        impl<$($parameter),+> $wrapper<$($parameter),+> {
            /// The backend within, for what is its own, such as statistics.
            pub fn get_ref(&self) -> &B {
                &self.backend
            }

            /// The backend within, without the wrapper.
            pub fn into_inner(self) -> B {
                self.backend
            }
        }
    };
}

pub(crate) use access;
