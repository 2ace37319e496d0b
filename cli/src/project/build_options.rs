//! Options for the compiler: cargo's features and profile, Go's tags and linker flags.
//!
//! Each option is a key of `[build]` in `wasmop.toml` and a flag of `wasmop build`. A flag takes
//! precedence over the key.

use clap::Args;
use wasmop_package::manifest::{Mode, Toolchain};

use super::{FILE_NAME, Project, toolchain_name};
use crate::error::{Failure, failure};
use crate::toml_file::value::Written;

/// The options of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// Cargo features to enable.
    pub features: Vec<String>,
    /// Whether the cargo feature `default` is enabled.
    pub default_features: bool,
    /// The cargo profile to build with; `None` for wasmop's own.
    pub profile: Option<String>,
    /// Whose loop runs the reconciles of a program without the crate `wasmop`; `None`: the host's if it can.
    pub mode: Option<Mode>,
    /// Go build tags.
    pub tags: Vec<String>,
    /// Flags for Go's linker, in the syntax of `-ldflags`.
    pub ldflags: Option<String>,
    /// Whether a Go program without the SDK is built without the parts of Kubernetes that it cannot use.
    pub trim: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        let (features, tags) = (Vec::new(), Vec::new());
        BuildOptions { features, default_features: true, profile: None, mode: None, tags, ldflags: None, trim: true }
    }
}

/// The name of a cargo profile.
#[derive(Clone, Debug)]
pub struct ProfileName(pub String);

impl Written for ProfileName {
    const HELP: &'static str = "name a profile of Cargo.toml, like `release`, or one below [profile]";

    fn parse(text: &str) -> Result<ProfileName, String> {
        let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if is_name { Ok(ProfileName(text.to_owned())) } else { Err(format!("`{text}` is not the name of a profile")) }
    }
}

impl Written for Mode {
    const HELP: &'static str = "see docs/rust-operators.md";

    fn parse(text: &str) -> Result<Mode, String> {
        let modes = [Mode::HostDriven, Mode::GuestDriven];
        let named = modes.into_iter().find(|mode| mode.name() == text);
        named.ok_or_else(|| format!("`{text}` is not a mode: use host-driven or guest-driven"))
    }
}

/// A mode on the command line.
fn mode(text: &str) -> Result<Mode, String> {
    Mode::parse(text)
}

/// A profile's name on the command line.
fn profile_name(text: &str) -> Result<String, String> {
    ProfileName::parse(text).map(|ProfileName(name)| name).map_err(|_| ProfileName::HELP.to_owned())
}

/// The flags of `wasmop build`.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildFlags {
    /// Cargo features to enable, separated by commas or spaces; may be given several times.
    #[arg(long, short = 'F', value_name = "FEATURES")]
    features: Vec<String>,

    /// Do not enable the cargo feature `default`.
    #[arg(long)]
    no_default_features: bool,

    /// The cargo profile to build with.
    #[arg(long, value_name = "PROFILE", value_parser = profile_name)]
    profile: Option<String>,

    /// Whose loop runs the reconciles of a program without the crate `wasmop`: host-driven or guest-driven [default: the
    /// host's, if the program allows it].
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<Mode>,

    /// Go build tags, separated by commas; may be given several times.
    #[arg(long, value_name = "TAGS")]
    tags: Vec<String>,

    /// Flags for Go's linker, like `-X main.version=1.2.3`.
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    ldflags: Option<String>,
}

impl BuildFlags {
    /// Overrides the project's own options with the flags. A flag for another toolchain is an error.
    pub fn apply_to(self, project: &mut Project) -> Result<(), Failure> {
        let BuildFlags { features, no_default_features, profile, mode, tags, ldflags } = self;
        let go = matches!(project.toolchain, Toolchain::Go | Toolchain::Tinygo);
        let cargo = project.toolchain == Toolchain::Cargo;
        for (flag, given, fits) in [
            ("--features", !features.is_empty(), cargo),
            ("--no-default-features", no_default_features, cargo),
            ("--profile", profile.is_some(), cargo),
            ("--mode", mode.is_some(), cargo),
            ("--tags", !tags.is_empty(), go),
            ("--ldflags", ldflags.is_some(), go),
        ] {
            if given && !fits {
                let toolchain = toolchain_name(project.toolchain);
                let help = match project.toolchain {
                    Toolchain::Cargo => {
                        "for cargo use --features, --no-default-features, --profile and --mode".to_owned()
                    }
                    Toolchain::Go | Toolchain::Tinygo => "for Go use --tags and --ldflags".to_owned(),
                    Toolchain::Component => format!("give it to the program in `command` under [build] in {FILE_NAME}"),
                };
                let problem = format!("`{flag}` is not for the toolchain `{toolchain}`, which builds {}", project.name);
                return Err(failure(problem, help).usage());
            }
        }
        let options = &mut project.options;
        if !features.is_empty() {
            options.features = split(&features);
        }
        if no_default_features {
            options.default_features = false;
        }
        if !tags.is_empty() {
            options.tags = split(&tags);
        }
        options.profile = profile.or(options.profile.take());
        options.mode = mode.or(options.mode);
        options.ldflags = ldflags.or(options.ldflags.take());
        Ok(())
    }
}

/// Splits lists at commas and spaces.
fn split(lists: &[String]) -> Vec<String> {
    let names = lists.iter().flat_map(|list| list.split([',', ' ']));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
