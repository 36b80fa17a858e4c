/** `npm run build`: compiles the server to dist/ and copies the files that it reads. */
import { execFileSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'

const cwd = import.meta.dirname
// A file of an earlier build would be packed as well.
rmSync(`${cwd}/dist`, { recursive: true, force: true })
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { cwd, stdio: 'inherit' })
cpSync(`${cwd}/src`, `${cwd}/dist`, { recursive: true, filter: (file) => !file.endsWith('.ts') })
