// Loaded by ava before each test file: ava waits without end for a process that keeps something
// open after its last test. Here it fails by name instead.
import { registerCompletionHandler } from 'ava'

const patienceMs = 10_000

registerCompletionHandler(() => {
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().join(', ')
    process.stderr.write(`The tests of this file are over, and it keeps open: ${open}\n`)
    process.exit(1)
  }, patienceMs).unref()
})
