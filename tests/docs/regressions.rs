//! docs/regressions.md: each mistake has a test, and each test is there.

use std::fs;

use regex::Regex;

use crate::project;

#[test]
fn the_tests_of_each_mistake_are_there() {
    let page = fs::read_to_string(project("docs/regressions.md")).unwrap();
    let cited = Regex::new(r"\[`(\w+)`\]\(\.\./([\w/.-]+)\)").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.filter(|row| !row.ends_with("| tests |")).collect();
    assert_eq!(rows.len(), 14 + 16);
    for row in rows {
        assert!(cited.is_match(row), "no test: {row}");
        for test in cited.captures_iter(row) {
            let (name, file) = (&test[1], &test[2]);
            let text = fs::read_to_string(project(file)).expect(file);
            let test = Regex::new(&format!(r"#\[test\](\s*#\[[^\]]*\])*\s*fn {name}\(")).unwrap();
            assert!(test.is_match(&text), "{file} has no test {name}");
        }
    }
}
