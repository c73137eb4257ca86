//! The documents in docs/benchmarks: one section for each bench, written anew by it and left alone by the others.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A file of sections.
struct Document {
    file: &'static str,
    title: &'static str,
    /// In their order.
    sections: &'static [Section],
}

const DATAPLANE: Document = Document {
    file: "dataplane.md",
    title: "# The dataplane, measured\n\n\
        Each section is written by the command that it names, on the machine that it names; ratios and differences are of one run.\n",
    sections: &[Section::Paths, Section::Packet, Section::Programming],
};

const API: Document = Document {
    file: "api.md",
    title: "# The API server, measured\n\n\
        Each section is written by the command that it names, on the machine that it names; all figures of a section are of one run.\n",
    sections: &[Section::Embedded, Section::Etcd],
};

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Paths between Pods.
    Paths,
    /// Single packets.
    Packet,
    /// From the API to the kernels.
    Programming,
    /// The API server on its own store.
    Embedded,
    /// The API server on etcd.
    Etcd,
}

impl Section {
    const fn document(self) -> &'static Document {
        match self {
            Self::Paths | Self::Packet | Self::Programming => &DATAPLANE,
            Self::Embedded | Self::Etcd => &API,
        }
    }

    const fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Paths => ("<!-- paths -->\n", "<!-- end of paths -->\n"),
            Self::Packet => ("<!-- packet -->\n", "<!-- end of packet -->\n"),
            Self::Programming => ("<!-- programming -->\n", "<!-- end of programming -->\n"),
            Self::Embedded => ("<!-- embedded -->\n", "<!-- end of embedded -->\n"),
            Self::Etcd => ("<!-- etcd -->\n", "<!-- end of etcd -->\n"),
        }
    }
}

/// Writes a section, and its plots by file name.
pub(crate) fn write(root: &Path, section: Section, text: &str, plots: &[(String, String)]) -> Result<()> {
    let dir = root.join("docs/benchmarks");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    for (name, plot) in plots {
        let path = dir.join(name);
        fs::write(&path, plot).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let path = dir.join(section.document().file);
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    fs::write(&path, with(&old, section, text))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    println!("bench: {}", path.display());
    Ok(())
}

fn with(old: &str, section: Section, text: &str) -> String {
    let mut document = section.document().title.to_owned();
    for each in section.document().sections.iter().copied() {
        let body = if each == section { Some(text) } else { body(old, each) };
        if let Some(body) = body {
            let (begin, end) = each.marks();
            document += &format!("\n{begin}{}\n{end}", body.trim_end());
        }
    }
    document
}

fn body(document: &str, section: Section) -> Option<&str> {
    let (begin, end) = section.marks();
    let (_, rest) = document.split_once(begin)?;
    rest.split_once(end).map(|(body, _)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_written_anew_and_the_others_stay() {
        let first = with("", Section::Programming, "## Programming\n\none\n");
        let both = with(&first, Section::Paths, "## Paths\n");
        let again = with(&both, Section::Programming, "## Programming\n\ntwo\n");
        assert!(again.starts_with(DATAPLANE.title));
        assert!(again.contains("two") && !again.contains("one\n<!--"));
        assert!(again.find("## Paths") < again.find("## Programming"));
        assert_eq!(with(&again, Section::Programming, "## Programming\n\ntwo\n"), again);
    }
}
