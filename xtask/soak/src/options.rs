//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::workspace;

const BACKENDS: [&str; 3] = ["dict", "memcache", "etcd"];

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Those to be soaked, all at the same time.
    pub(crate) backends: Vec<String>,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// Calls a second; `None` for what suits the backend.
    pub(crate) rate: Option<f64>,
    /// Where the JSON goes.
    pub(crate) folder: PathBuf,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            backends: Vec::new(),
            time: Duration::from_secs(60),
            seed: super::time::wall() / 1000 % 1_000_000_000,
            rate: None,
            folder: workspace::root().join("target/soak"),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{argument}: its value is missing"))
            };
            match argument.as_str() {
                "all" => options.backends.extend(BACKENDS.map(str::to_owned)),
                "--minutes" => options.time = minutes(value()?)?,
                "--seed" => options.seed = value()?.parse().context("--seed takes a number")?,
                "--rate" => options.rate = Some(positive(value()?).context("--rate")?),
                "--folder" => options.folder = PathBuf::from(value()?),
                name if BACKENDS.contains(&name) => options.backends.push(name.to_owned()),
                other => bail!(
                    "`{other}` is neither a backend (dict, memcache, etcd, all) nor an option of `cargo xtask soak`"
                ),
            }
        }
        if options.backends.is_empty() {
            options.backends = BACKENDS.map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

fn positive(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => bail!("`{text}` is no number above zero"),
    }
}

fn minutes(text: &str) -> Result<Duration> {
    let minutes = positive(text).context("--minutes")?;
    Ok(Duration::try_from_secs_f64(minutes * 60.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn options_are_read() {
        let options = parse("memcache --minutes 0.5 --seed 7 --rate 50").unwrap();
        assert_eq!(options.backends, ["memcache"]);
        assert_eq!(options.time, Duration::from_secs(30));
        assert_eq!((options.seed, options.rate), (7, Some(50.0)));
        assert_eq!(parse("").unwrap().backends, BACKENDS);
        assert_eq!(parse("all").unwrap().backends, BACKENDS);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, named) in [
            ("redis", "redis"),
            ("--minutes", "--minutes"),
            ("--minutes -1", "--minutes"),
            ("--rate 0", "--rate"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
