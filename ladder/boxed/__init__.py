"""Code that runs inside the sandbox. `ladder.sandbox` sends it there as bytecode."""
