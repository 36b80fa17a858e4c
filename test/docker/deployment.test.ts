// The examples of docker/ for systemd and Kubernetes, and the workflow of a release.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import test from 'ava'
import { Deployment } from 'kubernetes-models/apps/v1'
import { Job } from 'kubernetes-models/batch/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { Service } from 'kubernetes-models/v1'
import { parse, parseAllDocuments } from 'yaml'
import { parseConfig } from '../../src/config/config.ts'

interface Manifest {
  kind: string
  spec: { template: { spec: { containers: Container[] } } }
}

interface Container {
  args: string[]
  env: { name: string; value: string }[]
  ports?: { name: string; containerPort: number }[]
}

const manifests = parseAllDocuments(readFileSync('docker/kubernetes.yaml', 'utf8')).map(
  (document) => document.toJS() as Manifest,
)
const models: Record<string, new (data: never) => { validate(): void }> = {
  Deployment,
  Job,
  PodDisruptionBudget,
  Service,
}

const validate = (manifest: Manifest) => {
  const Model = models[manifest.kind]
  if (!Model) throw new Error(`${manifest.kind} has no schema`)
  new Model(manifest as never).validate()
}

for (const manifest of manifests) {
  test(`the Kubernetes ${manifest.kind} matches its schema`, (t) => {
    t.notThrows(() => validate(manifest))
    t.throws(() => validate({ ...manifest, spec: 7 } as never))
    t.throws(() => validate({ ...manifest, metadata: { labels: { app: 7 } } } as never))
  })
}

/** What `ENV` of the Dockerfile sets. */
const imageEnvironment = Object.fromEntries(
  (
    /^ENV ((?:.*\\\n)*.*)$/m
      .exec(readFileSync('docker/Dockerfile', 'utf8'))?.[1]
      ?.replaceAll('\\\n', ' ')
      .trim()
      .split(/\s+/) ?? []
  ).map((pair) => pair.split('=')),
)

for (const kind of ['Deployment', 'Job']) {
  test(`the environment of the Kubernetes ${kind} is a valid configuration`, (t) => {
    const containers = manifests.find((each) => each.kind === kind)?.spec.template.spec.containers
    t.is(containers?.length, 1)
    const { env = [], ports = [] } = containers?.[0] ?? {}
    const given = Object.fromEntries(env.map(({ name, value }) => [name, value]))
    const { DATABASE_URL_FILE, HOLDFAST_SECRET_FILE, NODE_ENV: _, ...rest } = given
    t.truthy(DATABASE_URL_FILE)
    t.truthy(HOLDFAST_SECRET_FILE)
    const { NODE_ENV, ...image } = imageEnvironment
    t.is(NODE_ENV, 'production')
    const config = parseConfig({
      ...image,
      ...rest,
      DATABASE_URL: 'postgresql://holdfast@db.example/holdfast',
      HOLDFAST_SECRET: 'a secret of at least 32 characters',
    })
    const numbers = ports.map(({ containerPort }) => containerPort)
    if (kind === 'Deployment') {
      t.deepEqual(numbers, [config.listen.port, config.operations.metrics?.port])
    }
  })
}

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0
const testSystemd = hasSystemd ? test : test.skip
if (!hasSystemd) {
  process.stderr.write('SKIPPED: docker/holdfast.service, because systemd-analyze is missing.\n')
}

testSystemd('systemd accepts the unit, and rates its exposure at most 2.0', (t) => {
  const verified = spawnSync('systemd-analyze', ['verify', 'docker/holdfast.service'], {
    encoding: 'utf8',
  })
  // It names programs that this machine lacks; anything else is about the unit.
  const complaints = verified.stderr
    .split('\n')
    .filter((line) => line.includes('holdfast.service') && !line.includes('is not executable'))
  t.deepEqual(complaints, [])
  const security = execFileSync(
    'systemd-analyze',
    ['security', '--offline=true', '--no-pager', 'docker/holdfast.service'],
    { encoding: 'utf8' },
  )
  const [, exposure] = /Overall exposure level for holdfast\.service: ([\d.]+)/.exec(security) ?? []
  t.true(Number(exposure) <= 2, security)
})

test('workflows give no permission that a job does not name', (t) => {
  for (const file of ['ci', 'release']) {
    const workflow = parse(readFileSync(`.github/workflows/${file}.yml`, 'utf8')) as {
      permissions: object
      jobs: Record<string, { permissions?: object }>
    }
    t.deepEqual(workflow.permissions, {})
    for (const job of Object.values(workflow.jobs)) t.truthy(job.permissions)
  }
})
