/**
 * Serves Envoy's ext_authz by gRPC (connect-node). Only a gate with `forwardAuth.proxy: envoy-grpc`
 * loads this file, and needs its packages.
 */
import {
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from '@connectrpc/connect'
import { connectNodeAdapter } from '@connectrpc/connect-node'
import type { Config } from '../config.ts'
import type { Asked } from '../edge.ts'
import type { InboundRequest, InboundResponse } from '../exchange.ts'
import type { Gate } from '../gate.ts'
import type { Handlers } from '../listener.ts'
import { Refusal } from '../refusal.ts'
import { refusalAnswer, write } from '../respond.ts'
import { checkResponse, readCheck } from './ext-authz.ts'
import { Authorization, type CheckRequest } from './external_auth_pb.ts'

const socketKey = createContextKey<Asked['socket'] | undefined>(undefined)

/** A deadline beyond this is refused. */
const longestMs = 300_000

/** Makes the handlers of a listener that speaks HTTP/2 without TLS. Peers that are not trusted get 403. */
export function createEnvoyHandlers(gate: Gate, { headerBytes }: Config['limits']): Handlers {
  async function check(message: CheckRequest, { values }: HandlerContext) {
    const socket = values.get(socketKey)
    if (socket === undefined) throw new TypeError('a check needs its connection')
    let asked: Asked | undefined
    const read = () => {
      asked = readCheck(message, socket)
      return asked
    }
    return checkResponse(await gate.decide(read, socket.remoteAddress), asked?.fields ?? [])
  }
  const adapter = connectNodeAdapter({
    routes: (router: ConnectRouter) => router.service(Authorization, { check }),
    contextValues: ({ socket }) => createContextValues().set(socketKey, socket as Asked['socket']),
    connect: false,
    grpcWeb: false,
    // A small message could be large once it is decompressed.
    acceptCompression: [],
    // All fields, their names and lengths, and a certificate.
    readMaxBytes: 2 * headerBytes + 32_768,
    maxTimeoutMs: longestMs,
  })
  return {
    async handle(request: InboundRequest, response: InboundResponse) {
      if (!gate.isProxy(request.socket.remoteAddress)) {
        write(request, response, refusalAnswer(new Refusal('peer'), 'envoy-grpc'))
        return
      }
      adapter(...([request, response] as unknown as Parameters<typeof adapter>))
    },
    allEnded: gate.allEnded,
    close: gate.close,
    isProxy: gate.isProxy,
  }
}
