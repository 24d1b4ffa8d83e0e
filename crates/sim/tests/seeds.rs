//! A few seeds within `cargo test`; the many are `cargo xtask sim` and `cargo xtask differential`.

#[test]
fn a_simulation_keeps_every_promise() {
    let report = sqlrep_sim::run(5);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.acknowledged > 200, "{}", report.acknowledged);
}

#[test]
fn generated_statements_do_what_they_do_in_sqlite() {
    let mut statements = 0;
    for seed in 1..=20 {
        let compared = sqlrep_sim::differential(seed);
        assert_eq!(compared.difference, None, "seed {seed}");
        statements += compared.statements;
    }
    assert!(statements > 1_000, "{statements}");
}
