//! The Python code and configuration from the documentation, with the addresses of real servers.

use anyhow::{Context as _, Result, bail, ensure};

const POOL: &str = include_str!("../../../cache-memcache-pool/README.md");
const ETCD: &str = include_str!("../../../cache-etcd3/README.md");

/// Python code that makes a region, and the configuration file of the service.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) lines: String,
    pub(crate) ini: String,
}

impl Recipe {
    /// The dogpile.cache region from the README for memcached.
    pub(crate) fn dogpile(urls: &[String]) -> Result<Self> {
        let section = sharing(POOL)?;
        let [dogpile, _] = &*blocks(section, "python") else {
            bail!("the README for memcached does not have the expected Python examples");
        };
        Self::new(dogpile, "").on_farm(urls)
    }

    /// The oslo.cache region from the README for memcached.
    pub(crate) fn oslo_pool(urls: &[String]) -> Result<Self> {
        let section = sharing(POOL)?;
        let ([ini], [_, oslo]) = (&*blocks(section, "ini"), &*blocks(section, "python")) else {
            bail!("the README for memcached does not have the expected examples");
        };
        Self::new(oslo, ini).on_farm(urls)
    }

    /// The oslo.cache region from the README for etcd.
    pub(crate) fn oslo_etcd(endpoint: &str) -> Result<Self> {
        let section = sharing(ETCD)?;
        let ([ini], [lines]) = (&*blocks(section, "ini"), &*blocks(section, "python")) else {
            bail!("the README for etcd does not have the expected examples");
        };
        let (host, port) = endpoint.split_once(':').context("etcd has no port")?;
        Self::new(lines, ini)
            .with("host:10.0.0.1", &format!("host:{host}"))?
            .with("port:2379", &format!("port:{port}"))
    }

    pub(crate) fn new(lines: &str, ini: &str) -> Self {
        Self {
            lines: lines.to_owned(),
            ini: ini.to_owned(),
        }
    }

    /// Replaces `written` with `other`.
    pub(crate) fn with(self, written: &str, other: &str) -> Result<Self> {
        let Self { lines, ini } = self;
        ensure!(
            lines.contains(written) || ini.contains(written),
            "the page has no {written}"
        );
        Ok(Self {
            lines: lines.replace(written, other),
            ini: ini.replace(written, other),
        })
    }

    /// Adds an argument for the dogpile.cache backend.
    pub(crate) fn with_argument(self, argument: &str) -> Result<Self> {
        self.with("arguments={", &format!("arguments={{{argument}, "))
    }

    /// Makes the region pickle, which is its default.
    pub(crate) fn pickling(self) -> Result<Self> {
        self.with(BY_JSON, "")
    }

    /// Makes the region store bytes unchanged.
    pub(crate) fn of_bytes(self) -> Result<Self> {
        self.with(BY_JSON, "serializer=bytes, deserializer=bytes")
    }

    pub(crate) fn on_farm(self, urls: &[String]) -> Result<Self> {
        let mut numbered = (1..).zip(urls);
        numbered.try_fold(self, |recipe, (number, url)| {
            recipe.with(&format!("10.0.0.{number}:11211"), url)
        })
    }
}

/// The serializer arguments of the documented regions.
const BY_JSON: &str =
    "serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads";

/// The section of a README about sharing a cache with Python.
fn sharing(readme: &'static str) -> Result<&'static str> {
    let (_, section) = readme
        .split_once("## Sharing a cache with Python\n")
        .context("the README says nothing about sharing a cache with Python")?;
    Ok(section.split("\n## ").next().unwrap_or(section))
}

/// The code blocks of a page in one language.
pub(crate) fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    // Every second part is inside of a code block.
    let blocks = page.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    blocks
        .filter(|(name, _)| *name == language)
        .map(|(_, text)| text)
        .collect()
}
