use std::collections::HashSet;

use super::*;

/// `n` servers of weight 1.
pub(super) fn servers(n: usize) -> Vec<ServerSpec> {
    (0..n)
        .map(|i| ServerSpec {
            name: format!("10.0.{}.{}:11211", i / 256, i % 256),
            weight: 1,
        })
        .collect()
}

/// Checks a routing against vectors: servers, positions of those that are down, key, chosen
/// position. Returns the number of vectors.
pub(super) fn agrees_with<F>(vectors: &str, router: impl Fn(&[ServerSpec]) -> F) -> usize
where
    F: Fn(&str, &dyn Fn(usize) -> bool) -> Option<usize>,
{
    let mut n = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let [servers, down, key, chosen] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}");
        };
        let servers: Vec<ServerSpec> = servers
            .split(' ')
            .map(|server| {
                let (name, weight) = server.split_once('*').unwrap_or((server, "1"));
                ServerSpec {
                    name: name.to_owned(),
                    weight: weight.parse().unwrap(),
                }
            })
            .collect();
        let down: HashSet<usize> = down.split(',').filter_map(|s| s.parse().ok()).collect();
        let pick = router(&servers)(key, &|server| !down.contains(&server));
        assert_eq!(pick, chosen.parse().ok(), "{line}");
        n += 1;
    }
    n
}

const ALL: [Routing; 4] = [
    Routing::Consistent,
    Routing::PythonMemcached,
    Routing::Pymemcache,
    Routing::Ketama,
];

#[test]
fn no_server_is_chosen_if_all_are_down() {
    for routing in ALL {
        for n in [1, 3, 100] {
            let router = Router::new(routing, &servers(n));
            assert_eq!(router.pick("k", &|_| false), None, "{routing:?}");
        }
    }
}

#[test]
fn no_server_is_chosen_from_an_empty_list() {
    for routing in ALL {
        let router = Router::new(routing, &[]);
        assert_eq!(router.pick("k", &|_| true), None, "{routing:?}");
    }
}

#[test]
fn a_server_without_weight_gets_no_keys() {
    for routing in [
        Routing::Consistent,
        Routing::PythonMemcached,
        Routing::Ketama,
    ] {
        let mut servers = servers(3);
        servers[1].weight = 0;
        let router = Router::new(routing, &servers);
        for i in 0..100 {
            assert_ne!(
                router.pick(&i.to_string(), &|_| true),
                Some(1),
                "{routing:?}"
            );
        }
        let router = Router::new(routing, &servers[1..2]);
        assert_eq!(router.pick("k", &|_| true), None, "{routing:?}");
    }
}

#[test]
fn the_only_server_gets_all_keys() {
    for routing in ALL {
        let router = Router::new(routing, &servers(1));
        assert_eq!(router.pick("k", &|_| true), Some(0), "{routing:?}");
    }
}

#[test]
fn a_routing_function_is_called() {
    let router = Router::own(Arc::new(|key, is_up| {
        let server = usize::from(key.starts_with('s'));
        is_up(server).then_some(server)
    }));
    assert_eq!(router.pick("session", &|_| true), Some(1));
    assert_eq!(router.pick("user", &|_| true), Some(0));
    assert_eq!(router.pick("user", &|server| server == 1), None);
}

#[test]
fn a_routing_function_cannot_choose_a_server_that_is_down() {
    let router = Router::own(Arc::new(|_, _| Some(0)));
    assert_eq!(router.pick("k", &|_| true), Some(0));
    assert_eq!(router.pick("k", &|server| server == 1), None);
}
