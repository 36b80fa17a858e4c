/**
 * `npm run build`: compiles the server to dist/ and copies the files that it reads. Of Pico CSS (MIT)
 * one file is used, and its copy is in the repository: a server is installed without the other 20 MB.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'

const cwd = import.meta.dirname
// A file of an earlier build would be packed as well.
rmSync(`${cwd}/dist`, { recursive: true, force: true })
cpSync(
  `${cwd}/node_modules/@picocss/pico/css/pico.classless.min.css`,
  `${cwd}/src/pages/assets/pico.css`,
)
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { cwd, stdio: 'inherit' })
cpSync(`${cwd}/src`, `${cwd}/dist`, { recursive: true, filter: (file) => !file.endsWith('.ts') })
