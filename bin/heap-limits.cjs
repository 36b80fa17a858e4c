// Plain JavaScript that an old Node can read; see holdfast.cjs.

/**
 * Without them V8 takes what the machine seems to have: garbage that there was no reason to collect.
 * "Memory" in docs/operations.md has the figures.
 */
var limits = ['--max-old-space-size=256', '--max-semi-space-size=16']

var own = /--max[-_](?:old[-_]space|semi[-_]space|heap)[-_]size/

/**
 * The limits of V8 that a serving process starts with. Those of the operator win: where one is in
 * NODE_OPTIONS or on the command line of node, none is added.
 */
module.exports = function heapLimits(options) {
  return own.test(options.join(' ')) ? [] : limits
}
