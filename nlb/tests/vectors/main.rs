//! Every file under `tests/vectors` is a case; its README describes the format.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

mod case;
mod expect;

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_vector_holds() {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no vectors under {}", root().display());
    let wanted = std::env::var("VECTORS").unwrap_or_default();
    let mut failures = Vec::new();
    let mut run = 0;
    for path in &paths {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if !name.contains(&wanted) {
            continue;
        }
        run += 1;
        let problems = match case::Case::read(&fs::read_to_string(path).unwrap()) {
            Ok(case) => case.run(),
            Err(problem) => vec![problem],
        };
        failures.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    assert!(run > 0, "no vector has {wanted:?} in its path");
    assert!(failures.is_empty(), "{} problems in {run} vectors:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_case_that_expects_nothing_or_something_unknown_is_no_case() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n";
    for (expectation, part) in [
        ("---\nexpect: {}\n", "expects nothing"),
        ("", "no expect document"),
        ("---\nexpect: {violation: []}\n", "violation"),
        ("---\nexpect: {gates: []}\n", "gates is not for a Service"),
        ("---\nexpected: {violations: []}\n", "neither a manifest nor"),
    ] {
        let problems = match case::Case::read(&format!("{service}{expectation}")) {
            Ok(case) => case.run(),
            Err(problem) => vec![problem],
        };
        assert!(problems.iter().any(|problem| problem.contains(part)), "{expectation}: {problems:?}");
    }
}

#[test]
fn a_wrong_expectation_is_reported() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n\
                   spec: {type: LoadBalancer, loadBalancerClass: service.k8s.aws/nlb, selector: {a: b}, ports: [{port: 80}]}\n";
    for expectation in [
        "ownership: Foreign",
        "accepted: false",
        "spec: {Scheme: internet-facing}",
        "spec: {Listeners: []}",
        "spec: {Scheme: \"!absent\"}",
        "violations: [{key: ~scheme, severity: Deny}]",
    ] {
        let problems = case::Case::read(&format!("{service}---\nexpect: {{{expectation}}}\n")).unwrap().run();
        assert_eq!(problems.len(), 1, "{expectation}: {problems:?}");
    }
}
