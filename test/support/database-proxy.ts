import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

import { until } from './until.ts'

/** A way to the database that can be cut, made to say nothing, and led to another one. */
export interface DatabaseProxy extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Breaks every connection and refuses new ones. */
  cut(): Promise<void>
  restore(): Promise<void>
  /** Answers are held back until `resume`; new connections wait as well. */
  pause(): void
  resume(): void
  /** Breaks every connection; new ones go to another server, where there is the same database. */
  leadTo(port: number): void
}

export async function openDatabaseProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl)
  let targetPort = Number(target.port)
  const answers = new Set<Socket>()
  const sockets = new Set<Socket>()
  let paused = false
  let server = await listen(0)
  const { port } = server.address() as AddressInfo

  async function listen(port: number): Promise<Server> {
    const listener = createServer((client) => {
      const database = connect(targetPort, target.hostname)
      for (const socket of [client, database]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          sockets.delete(socket)
          client.destroy()
          database.destroy()
        })
      }
      answers.add(database)
      client.pipe(database)
      database.on('data', (bytes) => client.write(bytes))
      if (paused) database.pause()
    })
    listener.listen(port, '127.0.0.1')
    await once(listener, 'listening')
    return listener
  }

  async function cut() {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }

  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${port}`
  return {
    url: url.href,
    port,
    cut,
    leadTo(port) {
      targetPort = port
      for (const socket of sockets) socket.destroy()
    },
    async restore() {
      // Meanwhile a connection of anybody on this machine may have the port.
      await until(async () => {
        const listening = await listen(port).catch(() => undefined)
        if (listening) server = listening
        return listening !== undefined
      })
    },
    pause() {
      paused = true
      for (const socket of answers) socket.pause()
    },
    resume() {
      paused = false
      for (const socket of answers) socket.resume()
    },
    [Symbol.asyncDispose]: cut,
  }
}
