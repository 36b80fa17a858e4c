#!/usr/bin/env node
// Plain JavaScript that an old Node can read, so that it can say which one is needed.
var fs = require('fs')
var path = require('path')
var heapLimits = require('./heap-limits.cjs')

var root = path.join(__dirname, '..')
var needed = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')).engines.node

function isOlder(version, least) {
  var is = version.split('.').map(Number)
  var must = least.split('.').map(Number)
  for (var at = 0; at < must.length; at += 1) {
    if (is[at] !== must[at]) return is[at] < must[at]
  }
  return false
}

/**
 * Starts this process again, by the same id, with the limits that V8 takes from nothing but the
 * command line. Workers inherit them. On Windows, and where another program has a channel to this
 * process, it continues without.
 */
function limitHeap() {
  var missing = heapLimits(process.execArgv.concat(process.env.NODE_OPTIONS || ''))
  if (missing.length === 0 || process.platform === 'win32' || process.send) return
  var node = [process.execPath].concat(process.execArgv, missing)
  process.execve(process.execPath, node.concat(process.argv.slice(1)), process.env)
}

if (isOlder(process.versions.node, needed.replace('>=', ''))) {
  process.stderr.write(
    'holdfast: Holdfast needs Node ' +
      needed.replace('>=', '') +
      ' or newer; this is Node ' +
      process.versions.node +
      '. Install it from https://nodejs.org.\n',
  )
  process.exitCode = 1
} else {
  if (process.argv[2] === 'serve') limitHeap()
  // npx starts a shell between, which passes no signal on: the end of that shell stands for one.
  if (process.env.npm_command === 'exec') {
    var parent = process.ppid
    var watch = setInterval(() => {
      if (process.ppid === parent) return
      clearInterval(watch)
      process.kill(process.pid, 'SIGTERM')
    }, 500)
    watch.unref()
  }
  // The package has compiled files, and a clone has sources.
  var source = path.join(root, 'src', 'cli.ts')
  var program = fs.existsSync(source) ? source : path.join(root, 'dist', 'cli.js')
  import(require('url').pathToFileURL(program).href)
}
