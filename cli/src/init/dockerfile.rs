//! The command of an image, from the project's Dockerfile. It has the arguments that the Deployment leaves out.

use std::path::Path;

use super::tree::{Tree, is_aside};

/// `ENTRYPOINT` and `CMD` of an image, in exec form.
#[derive(Debug, Default, PartialEq)]
pub struct Image {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
}

impl Image {
    /// The arguments of the program, in a container that has no command of its own.
    pub fn arguments(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).skip(1).cloned().collect()
    }
}

/// The project's only Dockerfile and its path. With several, nobody knows which one the Deployment uses.
pub fn find(tree: &Tree) -> Option<(&Path, Image)> {
    let is_dockerfile =
        |file: &&Path| file.file_name().is_some_and(|name| name == "Dockerfile" || name == "Containerfile");
    let mut files = tree.files.iter().map(|file| file.as_path()).filter(is_dockerfile).filter(|file| !is_aside(file));
    let file = files.next()?;
    if files.next().is_some() {
        return None;
    }
    Some((file, read(&tree.read(file)?)))
}

/// Reads the last stage.
fn read(text: &str) -> Image {
    let mut image = Image::default();
    let text = text.replace("\\\n", " ");
    for line in text.lines() {
        let (instruction, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line, ""));
        // A command in shell form is for a shell.
        let words = || serde_json::from_str::<Vec<String>>(rest.trim()).unwrap_or_default();
        match instruction.to_uppercase().as_str() {
            "FROM" => image = Image::default(),
            "ENTRYPOINT" => image.entrypoint = words(),
            "CMD" => image.cmd = words(),
            _ => {}
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_has_the_arguments() {
        for (text, arguments) in [
            ("FROM a\nENTRYPOINT [\"/manager\"]\n", vec![]),
            ("FROM a\nENTRYPOINT [\"/operator\"]\nCMD [\"run\"]\n", vec!["run"]),
            ("FROM a\nENTRYPOINT [\"/operator\", \\\n  \"--x\"]\n", vec!["--x"]),
            ("FROM a\nCMD [\"/operator\", \"--x\"]\n", vec!["--x"]),
            ("FROM a AS build\nCMD [\"make\", \"all\"]\nFROM b\nentrypoint [\"/operator\"]\n", vec![]),
            ("FROM a\nCMD [\"run\"]\nENTRYPOINT [\"/operator\"]\n", vec!["run"]),
            ("FROM a\nENTRYPOINT exec /operator --x\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(read(text).arguments(), arguments, "{text}");
        }
    }
}
