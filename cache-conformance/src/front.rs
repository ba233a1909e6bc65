//! [`tests!`](crate::tests), one `#[test]` a rule.

/// Declares a module of tests, one for each rule.
///
/// ```text
/// cache_conformance::tests!(my_backend: MyHarness);
/// ```
///
/// gives `my_backend::basic::set_replaces` and so on. `MyHarness` is an expression of a type that
/// implements [`Harness`](crate::Harness). Rules that do not apply, or that the backend breaks
/// for a reason, are waived by group or by name; libtest shows them as `ignored, <reason>`:
///
/// ```text
/// cache_conformance::tests! {
///     my_backend: MyHarness,
///     waive {
///         expiry: "keeps values for ever",
///         keys::case_is_kept: "the store folds case",
///     }
/// }
/// ```
///
/// A waived rule is run all the same, by the test `my_backend::waivers_are_needed`: once it
/// passes, that test fails until the waiver is removed.
#[macro_export]
macro_rules! tests {
    ($module:ident : $harness:expr $(, waive { $($waivers:tt)* } )? $(,)?) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            fn suite() -> &'static $crate::Suite {
                static SUITE: ::std::sync::OnceLock<$crate::Suite> = ::std::sync::OnceLock::new();
                SUITE.get_or_init(|| {
                    let suite = $crate::Suite::new($harness).name(stringify!($module));
                    $( let suite = $crate::__waive!(suite; $($waivers)*); )?
                    suite
                })
            }

            $crate::__declare_test!(__conformance_test ($) $($($waivers)*)?);
            $crate::__for_each_rule!(__conformance_test);

            #[test]
            fn waivers_are_needed() {
                suite().assert_waivers_are_needed();
            }
        }
    };
}

/// The waivers as calls of [`Suite::waive`](crate::Suite::waive).
#[doc(hidden)]
#[macro_export]
macro_rules! __waive {
    ($suite:expr; $( $group:ident $(:: $rule:ident)? : $reason:literal ),* $(,)?) => {
        $suite $( .waive(concat!(stringify!($group) $(, "::", stringify!($rule))?), $reason) )*
    };
}

/// Defines the macro `$test`, which turns one rule into one `#[test]`. Each waiver is an arm of
/// it, tried first, that knows the group and perhaps the rule by name. `$d` is a dollar sign.
#[doc(hidden)]
#[macro_export]
macro_rules! __declare_test {
    ($test:ident ($d:tt) $( $group:ident $(:: $rule:ident)? : $reason:literal ),* $(,)?) => {
        macro_rules! $test {
            $(
                ($group $($rule)? $d($d rest:tt)*) => {
                    $crate::__ignored_test! { $reason $d($d rest)* }
                };
            )*
            ($d group:ident $d rule:ident; $d same_group:ident $d same_rule:ident) => {
                #[test]
                fn $d rule() {
                    super::suite().assert_rule(stringify!($d group), stringify!($d rule));
                }
            };
        }
    };
}

/// A `#[test]` that libtest shows as ignored. What precedes the semicolon is the rest of the
/// rule's name that a waiver left unread.
#[doc(hidden)]
#[macro_export]
macro_rules! __ignored_test {
    ($reason:literal $($unread:ident)? ; $group:ident $rule:ident) => {
        #[test]
        #[ignore = $reason]
        fn $rule() {
            super::suite().assert_rule(stringify!($group), stringify!($rule));
        }
    };
}
