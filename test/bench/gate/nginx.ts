/** nginx as it stands in front of everything, and as the application behind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { until } from '../../support/until.ts'

type Role =
  /** Answers every request itself. */
  | Readonly<{ application: number }>
  /** Sends every request on. */
  | Readonly<{ port: number; backend: number; host: string }>

export interface Nginx extends AsyncDisposable {
  /** Of its master and its one worker. */
  readonly pids: readonly number[]
}

export async function startNginx(role: Role): Promise<Nginx> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-nginx-'))
  const servers =
    'application' in role
      ? `server { listen 127.0.0.1:${role.application}; location / { return 200 "hello\\n"; } }`
      : `upstream behind { server 127.0.0.1:${role.backend}; keepalive 64; }
         server {
           listen 127.0.0.1:${role.port};
           location / {
             proxy_http_version 1.1;
             proxy_set_header Connection "";
             proxy_set_header Host ${role.host};
             proxy_set_header X-Forwarded-For $remote_addr;
             proxy_pass http://behind;
           }
         }`
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  )
  const file = path.join(folder, 'nginx.conf')
  await writeFile(
    file,
    `${process.getuid?.() === 0 ? 'user root;' : ''}
     worker_processes 1; daemon off; pid ${folder}/pid; error_log ${folder}/error.log;
     events { worker_connections 1024; }
     http { access_log off; keepalive_requests 1000000; ${temporary.join(' ')} ${servers} }`,
  )
  const child = spawn('nginx', ['-c', file, '-p', folder], { stdio: 'inherit' })
  const port = 'application' in role ? role.application : role.port
  await until(
    async () => (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined)) !== undefined,
  )
  const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
  return {
    pids: [child.pid ?? 0, ...children.trim().split(' ').map(Number)],
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) {
        child.kill('SIGQUIT')
        await once(child, 'exit')
      }
      await rm(folder, { recursive: true, force: true })
    },
  }
}
