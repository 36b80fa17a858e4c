import { readFile } from 'node:fs/promises'
import tls from 'node:tls'
import type { TestServer } from './server.ts'

/** Makes this test file trust the development authority of a server, as its operator would. */
export async function trust({ authorityFile }: Pick<TestServer, 'authorityFile'>): Promise<void> {
  if (!authorityFile) throw new Error('the server has no development authority')
  const authority = await readFile(authorityFile, 'utf8')
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority])
}
