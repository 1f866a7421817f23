//! A fake proxy for plugin tests: build one plugin, run one hook, move the clock.
//! It must not know any particular plugin.
//! Called by the tests of built-in plugins and by authors of plugins out of the tree.
