//! What is published, taken apart: the image by the rules of those who pull it, the bill of materials
//! against what cargo compiles.

mod distribution;
mod image;
mod registry;
mod run;
