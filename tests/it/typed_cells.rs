//! Whose a cell is, and that it stays as it was typed: in counts, history, tracebacks and the debugger, among others that
//! fail, under other magics. Real IPython says what it sees; a kernel without nb says what comes of it.

mod generated;
mod ipython;
mod run_all;
mod under_others;
