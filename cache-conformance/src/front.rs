//! [`tests!`](crate::tests), one `#[test]` per rule.

/// Declares a module with one `#[test]` per rule.
///
/// ```text
/// cache_conformance::tests!(my_backend: MyHarness);
/// ```
///
/// declares `my_backend::basic::set_replaces` and so on. `MyHarness` is an expression whose type
/// implements [`Harness`](crate::Harness). A rule that does not apply, or that the backend breaks
/// for a good reason, is waived by its group or its name; libtest shows it as `ignored, <reason>`.
/// A waiver may depend on a `cfg`. If several waivers match a rule, the first one counts:
///
/// ```text
/// cache_conformance::tests! {
///     my_backend: MyHarness,
///     waive {
///         faults: "it runs in this process and has no server",
///         keys::case_is_kept: "the store folds case",
///         #[cfg(windows)]
///         keys::any_script_is_kept: "the console of the server knows Latin-1 only",
///         concurrency::no_value_is_torn: may_fail("a race in version 3 of the server"),
///     }
/// }
/// ```
///
/// The test `my_backend::waivers_are_needed` still runs each waived rule, three times. If the rule
/// passes each time, the test fails until the waiver is removed. A rule with `may_fail` may pass or
/// fail.
///
/// A new version of this crate may add rules. To adopt them when you are ready, name the [rule
/// set](crate::RULE_SETS) to test against; newer rules are then shown as `ignored, new since` the
/// rule set that added them:
///
/// ```text
/// cache_conformance::tests!(my_backend: MyHarness; up_to = "0.1");
/// ```
#[macro_export]
macro_rules! tests {
    (
        $module:ident : $harness:expr $(, waive { $($waivers:tt)* })? $(,)?
        $(; up_to = $up_to:tt)?
    ) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            fn suite() -> &'static $crate::Suite {
                static SUITE: ::std::sync::OnceLock<$crate::Suite> = ::std::sync::OnceLock::new();
                SUITE.get_or_init(|| {
                    let suite = $crate::Suite::new($harness)
                        .name(stringify!($module))
                        .declared_in(module_path!());
                    $( let suite = suite.up_to($up_to); )?
                    $( $crate::__waivers!(@calls suite $($waivers)*); )?
                    suite
                })
            }

            $crate::__declare_test!(@up_to [$($up_to)?] __conformance_test ($) $($($waivers)*)?);
            $crate::__for_each_group!(__conformance_test);

            #[test]
            fn waivers_are_needed() {
                suite().assert_waivers_are_needed();
            }
        }
    };
}

/// Calls `$test` for every rule, group by group.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_group {
    ($test:ident) => {
        mod basic {
            $crate::__rules_of_basic!($test);
        }
        mod keys {
            $crate::__rules_of_keys!($test);
        }
        mod values {
            $crate::__rules_of_values!($test);
        }
        mod limits {
            $crate::__rules_of_limits!($test);
        }
        mod metadata {
            $crate::__rules_of_metadata!($test);
        }
        mod multi {
            $crate::__rules_of_multi!($test);
        }
        mod expiry {
            $crate::__rules_of_expiry_ttls!($test);
            $crate::__rules_of_expiry_deadlines!($test);
        }
        mod sharing {
            $crate::__rules_of_sharing!($test);
        }
        mod concurrency {
            $crate::__rules_of_concurrency!($test);
        }
        mod races {
            $crate::__rules_of_races!($test);
        }
        mod cancellation {
            $crate::__rules_of_cancellation!($test);
        }
        mod faults {
            $crate::__rules_of_faults!($test);
        }
        mod outages {
            $crate::__rules_of_outages!($test);
        }
        mod bounds {
            $crate::__rules_of_bounds!($test);
        }
        mod errors {
            $crate::__rules_of_errors!($test);
        }
        mod model {
            $crate::__rules_of_model!($test);
        }
        mod unreadable {
            $crate::__rules_of_unreadable!($test);
        }
        mod promises {
            $crate::__rules_of_promises!($test);
        }
    };
}

/// The waivers as calls of [`Suite`](crate::Suite), one statement each.
#[doc(hidden)]
#[macro_export]
macro_rules! __waivers {
    (@calls $suite:ident) => {};
    (
        @calls $suite:ident
        $(#[cfg($($cfg:tt)*)])? $group:ident $(:: $rule:ident)? : may_fail($reason:literal)
        $(, $($rest:tt)*)?
    ) => {
        $(#[cfg($($cfg)*)])?
        let $suite = $suite.may_fail(
            concat!(stringify!($group) $(, "::", stringify!($rule))?),
            $reason,
        );
        $crate::__waivers!(@calls $suite $($($rest)*)?);
    };
    (
        @calls $suite:ident
        $(#[cfg($($cfg:tt)*)])? $group:ident $(:: $rule:ident)? : $reason:literal
        $(, $($rest:tt)*)?
    ) => {
        $(#[cfg($($cfg)*)])?
        let $suite = $suite.waive(
            concat!(stringify!($group) $(, "::", stringify!($rule))?),
            $reason,
        );
        $crate::__waivers!(@calls $suite $($($rest)*)?);
    };
    // Reported elsewhere.
    (@calls $suite:ident $($other:tt)*) => {};
}

/// Defines the macro `$test`, which turns one rule into one `#[test]`. Each waiver is one of its
/// first arms, which match the group and possibly the name of the rule. `$d` is a dollar sign.
#[doc(hidden)]
#[macro_export]
macro_rules! __declare_test {
    // The rule sets that are newer than the one to test against.
    (@up_to [] $($front:tt)*) => {
        $crate::__declare_test!(@newer [] $($front)*);
    };
    (@up_to ["0.1"] $($front:tt)*) => {
        $crate::__declare_test!(@newer [] $($front)*);
    };
    (@up_to [$other:tt] $test:ident ($d:tt) $($waivers:tt)*) => {
        compile_error!("up_to: unknown rule set; use one of cache_conformance::RULE_SETS");
        // Its absence would be an error for each group.
        macro_rules! $test { ($d($d rule:tt)*) => {}; }
    };

    // The waivers, one after another, in a common form.
    (@newer [$($newer:tt)*] $test:ident ($d:tt) $($waivers:tt)*) => {
        $crate::__declare_test!(@take [$test ($d) $($newer)*] [] $($waivers)*);
    };
    (
        @take $front:tt [$($taken:tt)*]
        $(#[cfg($($cfg:tt)*)])? $group:ident $(:: $rule:ident)? : may_fail($reason:literal)
        $(, $($rest:tt)*)?
    ) => {
        $crate::__declare_test!(
            @take $front
            [$($taken)* { [$($($cfg)*)?] $group $($rule)?, $reason }]
            $($($rest)*)?
        );
    };
    (
        @take $front:tt [$($taken:tt)*]
        $(#[cfg($($cfg:tt)*)])? $group:ident $(:: $rule:ident)? : $reason:literal
        $(, $($rest:tt)*)?
    ) => {
        $crate::__declare_test!(
            @take $front
            [$($taken)* { [$($($cfg)*)?] $group $($rule)?, $reason }]
            $($($rest)*)?
        );
    };
    (@take $front:tt [$($taken:tt)*]) => {
        $crate::__declare_test!(@define $front $($taken)*);
    };
    (@take [$test:ident ($d:tt) $($newer:tt)*] $taken:tt $($other:tt)*) => {
        macro_rules! $test { ($d($d rule:tt)*) => {}; }
        compile_error!(concat!(
            "waive: expected `group: \"reason\"`, `group::rule: \"reason\"` or `group::rule: \
             may_fail(\"reason\")`, separated by commas, with reasons that are literals; found `",
            stringify!($($other)*),
            "`"
        ));
    };

    (
        @define [$test:ident ($d:tt) $($newer:tt $new:literal),*]
        $({ [$($cfg:tt)*] $group:ident $($rule:ident)?, $reason:literal })*
    ) => {
        macro_rules! $test {
            $(
                (($newer) $d($d rest:tt)*) => {
                    $crate::__ignored_test! { [] $new $d($d rest)* }
                };
            )*
            $(
                ($d since:tt [$group $($rule)? $d($d unread:ident)?] $d($d rest:tt)*) => {
                    $crate::__ignored_test! { [$($cfg)*] $reason $d($d rest)* }
                };
            )*
            // No waiver has this former name: try the next name.
            ($d since:tt [$d($d former:tt)*] [$d($d name:tt)*] $d($d rest:tt)*) => {
                $test! { $d since [$d($d name)*] $d($d rest)* }
            };
            ($d since:tt [$d($d name:tt)*]; $d group:ident $d rule:ident) => {
                #[test]
                fn $d rule() {
                    super::suite().assert_rule(stringify!($d group), stringify!($d rule));
                }
            };
        }
    };
}

/// A `#[test]` that libtest shows as ignored. The names of the rule before the semicolon are
/// unused.
#[doc(hidden)]
#[macro_export]
macro_rules! __ignored_test {
    ([] $reason:literal $([$($unread:tt)*])* ; $group:ident $rule:ident) => {
        #[test]
        #[ignore = $reason]
        fn $rule() {
            super::suite().assert_rule(stringify!($group), stringify!($rule));
        }
    };
    ([$($cfg:tt)+] $reason:literal $([$($unread:tt)*])* ; $group:ident $rule:ident) => {
        #[test]
        #[cfg_attr(all($($cfg)+), ignore = $reason)]
        fn $rule() {
            super::suite().assert_rule(stringify!($group), stringify!($rule));
        }
    };
}
