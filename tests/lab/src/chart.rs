//! The chart that the lab installs. Its files are part of this program, as the pins of the control plane are.

use std::{fs, io, path::Path};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../manifests/chart/", $name)))),*]
    };
}

/// Every file of the chart: its path in it, and its text.
const FILES: &[(&str, &str)] = files![
    "Chart.yaml",
    "files/alerts.yaml",
    "files/dashboard.json",
    "files/targetgroupbindings.yaml",
    "templates/NOTES.txt",
    "templates/_helpers.tpl",
    "templates/crds.yaml",
    "templates/monitoring/dashboard.yaml",
    "templates/monitoring/rules.yaml",
    "templates/monitoring/servicemonitor.yaml",
    "templates/namespace.yaml",
    "templates/registrar/deployment.yaml",
    "templates/registrar/networkpolicy.yaml",
    "templates/registrar/policies.yaml",
    "templates/registrar/rbac.yaml",
    "templates/settings.yaml",
    "templates/validate.yaml",
    "templates/webhook/certificate.yaml",
    "templates/webhook/deployment.yaml",
    "templates/webhook/mutating.yaml",
    "templates/webhook/networkpolicy.yaml",
    "templates/webhook/rbac.yaml",
    "templates/webhook/service.yaml",
    "templates/webhook/validating.yaml",
    "values.schema.json",
    "values.yaml",
];

/// Writes the chart to a directory.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn list(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                list(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn every_file_of_the_chart_is_here() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/chart");
        let mut found = Vec::new();
        list(&root, &root, &mut found);
        found.retain(|name| !name.starts_with('.'));
        found.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), found);
    }
}
