"""Code that runs inside the sandbox. `ladder.verifiers.sandbox` sends it there as bytecode."""
