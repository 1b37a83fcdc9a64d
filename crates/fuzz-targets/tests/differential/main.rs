//! The parsers against other parsers, and the fuzzer's targets with their seeds.

mod agreement;
mod fuzz;
mod mutations;
