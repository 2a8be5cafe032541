"""Supply chain: locked requirements with hashes, licenses, and an offline audit. See docs/supply-chain.md."""
