// A WebSocket and a stream of events that a ticket opens, and that end with their token.
import { createServer } from 'node:http'
import { createVerifier } from '@holdfast/verify'
import { expressVerify } from '@holdfast/verify/express'
import { createLeases, createTickets } from '@holdfast/verify/ticket'
import { beginEvents } from '@holdfast/verify/ticket/events'
import { upgradeWithTicket } from '@holdfast/verify/ticket/ws'
import express from 'express'
import { WebSocketServer } from 'ws'

export function streams({ secret, isRevoked, ...options }) {
  const verifier = createVerifier(options)
  const tickets = createTickets(verifier, { secrets: [secret] })
  const leases = createLeases({ isRevoked })

  const app = express()
  // The client sends its access token and a proof, and gets a ticket for one URL.
  app.post('/tickets', expressVerify(verifier), express.json(), (req, res) => {
    const ticket = tickets.issue(req.auth, { url: req.body.url })
    res.json({ ticket, expires_in: tickets.lifetime })
  })
  // new EventSource('/events?ticket=…'), or an image, or a download
  app.get('/events', expressVerify(tickets), (req, res) => {
    beginEvents(res, req.auth, leases).send({ hello: req.auth.claims.sub })
  })

  const server = createServer(app)
  const sockets = new WebSocketServer({ noServer: true })
  // new WebSocket('wss://api.example/chat?ticket=…')
  server.on('upgrade', upgradeWithTicket(tickets, sockets, { leases }))
  sockets.on('connection', (socket, _request, auth) => socket.send(`hello ${auth.claims.sub}`))
  return server
}
