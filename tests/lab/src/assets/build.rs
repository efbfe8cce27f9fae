//! Building programs from their pinned modules, one line of progress each.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use super::{
    Assets, Cache, Error,
    cache::failed,
    pins::{Family, Program},
};

const LAST_LINES: usize = 20;

/// Builds the missing programs of each family into the cache and adds them to `assets`.
pub(super) fn all(cache: &Cache, families: &[(&Family, Vec<&Program>)], assets: &mut Assets) -> Result<(), Error> {
    let total: usize = families.iter().map(|(family, _)| family.programs.len()).sum();
    let mut done = 0;
    // Another lab may have built meanwhile, so each entry is looked up again under the lock.
    let _lock = cache.lock()?;
    for (family, missing) in families {
        let key = family.key();
        let entry = match cache.entry(family.name, &key) {
            Some(entry) => entry,
            None => family_entry(cache, family, &key, done, total)?,
        };
        done += family.programs.len();
        for program in missing {
            assets.programs.insert(program.name.to_owned(), entry.join(program.name));
        }
        if let Some(crds) = family.certificate_crds(Some(&entry)) {
            assets.certificate_crds = crds;
        }
    }
    Ok(())
}

fn family_entry(cache: &Cache, family: &Family, key: &str, done: usize, total: usize) -> Result<PathBuf, Error> {
    let names: Vec<_> = family.programs.iter().map(|p| p.name).collect();
    let go = crate::prerequisites::find("go").ok_or_else(|| Error::NoGo(names.join(", ")))?;
    let scratch = cache.scratch(family.name, key)?;
    let module = scratch.join("module");
    write(&module, family.files)?;
    for (n, program) in family.programs.iter().enumerate() {
        let step = format!("[{}/{total}] {}", done + n + 1, program.name);
        compile(&go, &module, family, program, &scratch.join(program.name), &step)?;
    }
    if let Some(crds) = &family.crds {
        let output = run(&go, &module, &["list", "-m", "-f", "{{.Dir}}", crds.module], "its definitions")?;
        copy(&Path::new(output.trim()).join(crds.directory), &scratch.join("crds"))?;
    }
    fs::remove_dir_all(&module).map_err(failed("remove", &module))?;
    cache.commit(family.name, key, &scratch)
}

fn compile(
    go: &Path,
    module: &Path,
    family: &Family,
    program: &Program,
    output: &Path,
    step: &str,
) -> Result<(), Error> {
    eprintln!("lab: {step}: building from its pinned module ...");
    let started = Instant::now();
    let (flags, output) = (family.linker_flags(), output.to_string_lossy());
    let arguments =
        ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &flags, "-o", &output, program.package];
    run(go, module, &arguments, program.name)?;
    eprintln!("lab: {step}: built in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Runs Go in the module's directory and returns what it printed; downloads are shown as they come.
fn run(go: &Path, module: &Path, arguments: &[&str], program: &'static str) -> Result<String, Error> {
    let mut child = Command::new(go)
        .args(arguments)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("run", go))?;
    let mut last = VecDeque::with_capacity(LAST_LINES);
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let output = child.wait_with_output().map_err(failed("wait for", go))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Build { program, output: Vec::from(last).join("\n") })
}

fn write(directory: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, content).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(failed("create", to))?;
    for entry in fs::read_dir(from).map_err(failed("list", from))?.filter_map(Result::ok) {
        // Read and write, not `fs::copy`: the module cache is read-only and its permissions would come along.
        let content = fs::read(entry.path()).map_err(failed("read", &entry.path()))?;
        let path = to.join(entry.file_name());
        fs::write(&path, content).map_err(failed("write", &path))?;
    }
    Ok(())
}
