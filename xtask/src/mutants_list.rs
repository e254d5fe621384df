const MUTANTS: &[Mutant] = &[];
