//! Checks the links in this repository's Markdown files: relative and absolute links to its files
//! and headings, and links to docs.rs, whose items must be in the public API (`xtask/api`).

use std::fs;
use std::path::{Path, PathBuf};

const DOCS: &str = "https://docs.rs/";

/// Absolute links to files of this repository, which also work on docs.rs and crates.io.
const FILES: [&str; 2] = [
    "https://github.com/cache-rs/cache/blob/main/",
    "https://raw.githubusercontent.com/cache-rs/cache/main/",
];

/// Pages of the repository on GitHub that are not files.
const PAGES: [&str; 3] = ["issues", "discussions", "security"];

#[test]
fn links_resolve() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let links = links(&text);
        count += links.len();
        for link in links {
            if let Err(reason) = check(&page, &link) {
                problems.push(format!("{}: {link}: {reason}", page.display()));
            }
        }
        for name in undefined(&text) {
            problems.push(format!("{}: [{name}] is not defined", page.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 50, "only {count} links were found");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README of the repository, and the Markdown files of all crates, including those in `xtask`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let folders = [root(), root().join("xtask")].map(|parent| fs::read_dir(parent).unwrap());
    for folder in folders.into_iter().flatten() {
        let folder = folder.unwrap().path();
        if folder.join("Cargo.toml").exists() {
            let files = fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().path());
            pages.extend(files.filter(|file| file.extension().is_some_and(|end| end == "md")));
        }
    }
    pages
}

/// The text outside of code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The targets of all links: `[…](target)` and `[…]: target`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let inline = prose.split("](").skip(1);
    let inline = inline.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let defined = prose
        .lines()
        .filter_map(definition)
        .map(|(_, target)| target);
    inline.chain(defined).map(str::to_owned).collect()
}

fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("]: ")
}

/// The undefined reference links with a name in code style: `` [`Name`] ``.
fn undefined(text: &str) -> Vec<String> {
    let prose = prose(text);
    let defined: Vec<&str> = prose
        .lines()
        .filter_map(definition)
        .map(|(name, _)| name)
        .collect();
    let names = prose
        .split("[`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`]"));
    names
        .filter(|(_, behind)| !behind.starts_with(['(', '[', ':']))
        .map(|(name, _)| format!("`{name}`"))
        .filter(|name| !defined.contains(&name.as_str()))
        .collect()
}

fn check(page: &Path, link: &str) -> Result<(), String> {
    if let Some(docs) = link.strip_prefix(DOCS) {
        return check_docs(docs);
    }
    if let Some(file) = FILES.iter().find_map(|prefix| link.strip_prefix(prefix)) {
        return check_file(page, &root().join("README.md"), file);
    }
    if link.contains("/cache-rs/cache/") {
        let is_page = PAGES
            .iter()
            .any(|page| link.contains(&format!("/cache/{page}")));
        return is_page
            .then_some(())
            .ok_or_else(|| format!("link to a file as {}", FILES.join("… or ")));
    }
    if link.starts_with("https://") {
        return Ok(()); // External links are not checked.
    }
    check_file(page, page, link)
}

/// Checks a link to a file or folder, optionally with a heading, relative to the page `base`.
fn check_file(page: &Path, base: &Path, link: &str) -> Result<(), String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let file = match file {
        "" => page.to_owned(),
        file => base.with_file_name(file),
    };
    if !file.exists() {
        return Err("there is no such file".to_owned());
    }
    let has_heading = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines()
            .any(|line| anchor(line).as_deref() == Some(heading))
    };
    if heading.is_empty() || has_heading() {
        Ok(())
    } else {
        Err("there is no such heading".to_owned())
    }
}

/// The anchor of a heading.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

/// `crate`, `crate/<crate>/latest/source/<file>`, `<crate>/latest/<crate>/<page of an item>`.
fn check_docs(link: &str) -> Result<(), String> {
    if let Some((name, file)) = link
        .strip_prefix("crate/")
        .and_then(|link| link.split_once("/latest/source/"))
    {
        let folder = root().join(name);
        if !folder.join(file).exists() {
            return Err("the crate has no such file".to_owned());
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if manifest.contains(&format!("\"!/{file}\"")) {
            return Err("the package leaves this file out; link to GitHub".to_owned());
        }
        return Ok(());
    }
    let (name, item) = link.split_once("/latest/").unwrap_or((link, ""));
    let list = root().join(format!("xtask/api/{name}.txt"));
    let list = fs::read_to_string(list).map_err(|_| "there is no such crate".to_owned())?;
    if item.is_empty() {
        return Ok(());
    }
    let item = item
        .strip_prefix(&name.replace('-', "_"))
        .and_then(|item| item.strip_prefix('/'))
        .ok_or("the crate's name is not repeated")?;
    let (item, member) = item.split_once('#').unwrap_or((item, ""));
    let (folder, page) = item.rsplit_once('/').unwrap_or(("", item));
    let mut path = vec![name.replace('-', "_")];
    path.extend(
        folder
            .split('/')
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
    );
    let kind = match page.split('.').collect::<Vec<_>>().as_slice() {
        ["index", "html"] => "mod ",
        [kind, name, "html"] => {
            path.push((*name).to_owned());
            let kind = if *kind == "constant" { "const" } else { kind };
            &format!("{kind} ")
        }
        _ => return Err("this is not the page of an item".to_owned()),
    };
    let kind = match member.split_once('.') {
        None => kind,
        Some((of, member)) => {
            path.push(member.to_owned());
            match of {
                "associatedconstant" => "const ",
                of if of.ends_with("method") => "fn ",
                _ => "",
            }
        }
    };
    let wanted = format!("pub {kind}{}", path.join("::"));
    // Parameters may follow the name, and attributes may precede it.
    let is_it = |listed: &str| {
        let listed = without_generics(listed).replace("pub async fn ", "pub fn ");
        let rest = listed.split_once(&wanted).map(|(_, rest)| rest);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    if list.lines().any(is_it) {
        Ok(())
    } else {
        Err(format!("the public API has no `{wanted}`"))
    }
}

/// Converts `T<V>::method` to `T::method`.
fn without_generics(line: &str) -> String {
    let mut depth = 0;
    let mut last = ' ';
    let mut kept = String::new();
    for c in line.chars() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
        last = c;
    }
    kept
}

#[test]
fn finds_broken_links() {
    let page = root().join("README.md");
    for link in [
        "no-such-file.md",
        "cache-core/README.md#no-such-heading",
        "#no-such-heading",
        "https://docs.rs/cache-nothing",
        "https://docs.rs/crate/cache-core/latest/source/no-such-file.md",
        "https://docs.rs/crate/cache-etcd3/latest/source/examples/cluster.rs",
        "https://docs.rs/cache-core/latest/cache_core/struct.Erro.html",
        "https://docs.rs/cache-core/latest/cache_core/struct.Error.html#method.kin",
        "https://docs.rs/cache-core/latest/cache_core/nothing/index.html",
        "https://github.com/cache-rs/cache/blob/main/no-such-file.md",
        "https://github.com/cache-rs/cache/blob/main/README.md#no-such-heading",
        "https://github.com/cache-rs/cache/blob/master/README.md",
        "https://raw.githubusercontent.com/cache-rs/cache/main/no-such-crate/speed.svg",
    ] {
        assert!(check(&page, link).is_err(), "{link}");
    }
    assert_eq!(undefined("[`A`], [`B`](x), [`C`]\n\n[`C`]: x"), ["`A`"]);
    assert_eq!(links("[a](b) ```\n[c](d)\n``` [`e`]\n[`e`]: f"), ["b", "f"]);
}
