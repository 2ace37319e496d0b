//! Leaves out what a program cannot use of the kinds of Kubernetes.
//!
//! * **Kinds.** client-go's scheme registers all kinds of `k8s.io/api` with a value of each type. So Go's linker keeps
//!   all types with their methods. The build replaces the registration: it registers the kinds whose types the linker
//!   keeps anyway, because the program uses them. `guest-go/port/modules/k8s.io/apimachinery` has the part that runs in
//!   the program.
//! * **Codecs.** Requests and answers are JSON, so the build leaves out the protobuf codecs of `k8s.io/api`.
//!
//! A program can use both without mentioning them. Then they stay: see [`dynamic_use`].

mod codec;
mod dynamic_use;
mod registration;
mod tokens;

use anyhow::Result;
use semver::Version;

use self::dynamic_use::Target;
use super::overlay::Overlay;
use super::packages::{Package, Packages};

/// The module with the kinds, and the files of its packages that register and encode them.
const KINDS: &str = "k8s.io/api";
const REGISTER: &str = "register.go";
const CODEC: &str = "generated.pb.go";
/// A file of the replaced registration, and one of the clients without protobuf. They exist if their port rules fit.
const REGISTRATION: (&str, &str) = ("k8s.io/apimachinery", "pkg/runtime/wasmop_kinds_wasip1.go");
const JSON: (&str, &str) = ("k8s.io/client-go", "rest/wasmop_json_wasip1.go");
/// The first Go whose linker may list the types of a program in another way than the replaced registration expects.
const UNKNOWN_GO: Version = Version::new(1, 27, 0);

/// Leaves out what the program cannot use. Returns what stays and why, for people.
pub fn trim(overlay: &mut Overlay, packages: &Packages, go: &Version) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut without = |what: &str, why: Option<String>| match why {
        Some(why) => {
            kept.push(format!("The package keeps {what}: {why}."));
            false
        }
        None => true,
    };
    let kinds = without("all kinds of Kubernetes", why_all_kinds(overlay, packages, go)?);
    let codecs = without("the protobuf codecs of Kubernetes", why_codecs(overlay, packages)?);
    for package in packages.of_module(KINDS) {
        if kinds {
            leave_out_kinds(overlay, packages, package)?;
        }
        if codecs
            && let Some((file, text)) = file_of(overlay, packages, package, CODEC)?
            && let Some(text) = codec::without_codec(&text)
        {
            overlay.put_in_module(KINDS, &file, text.as_bytes(), packages)?;
        }
    }
    Ok(kept)
}

fn why_all_kinds(overlay: &mut Overlay, packages: &Packages, go: &Version) -> Result<Option<String>> {
    if *go >= UNKNOWN_GO {
        return Ok(Some(format!("this wasmop does not know the linker of Go {go}")));
    }
    why_not(overlay, packages, REGISTRATION, Target::Kinds, "which finds kinds by name")
}

fn why_codecs(overlay: &mut Overlay, packages: &Packages) -> Result<Option<String>> {
    why_not(overlay, packages, JSON, Target::Codecs, "which may be a codec")
}

/// Why the target stays: its port rule does not fit, or code uses it.
fn why_not(
    overlay: &mut Overlay,
    packages: &Packages,
    (module, file): (&str, &str),
    target: Target,
    which: &str,
) -> Result<Option<String>> {
    if !overlay.changes(module, file, packages)? {
        return Ok(Some(format!("this wasmop has no port rule for this {module}")));
    }
    let found = dynamic_use::find(target, packages)?;
    Ok(found.map(|found| format!("{} uses `{}`, {which}", found.package, found.name)))
}

/// Replaces the registration of a package. One of another form stays.
fn leave_out_kinds(overlay: &mut Overlay, packages: &Packages, package: &Package) -> Result<()> {
    let Some((file, text)) = file_of(overlay, packages, package, REGISTER)? else { return Ok(()) };
    let Some(replaced) = registration::replace(&package.path, &text) else { return Ok(()) };
    let lists = file.replace(REGISTER, "wasmop_lists.go");
    overlay.put_in_module(KINDS, &file, replaced.text.as_bytes(), packages)?;
    overlay.put_in_module(KINDS, &lists, replaced.lists.as_bytes(), packages)
}

/// A file of a package: its path in the module, and its text.
fn file_of(
    overlay: &mut Overlay,
    packages: &Packages,
    package: &Package,
    name: &str,
) -> Result<Option<(String, String)>> {
    let Some(dir) = package.dir_in_module().filter(|_| package.files.iter().any(|file| file == name)) else {
        return Ok(None);
    };
    let file = format!("{dir}/{name}");
    Ok(overlay.text_in_module(KINDS, &file, packages)?.map(|text| (file, text)))
}
