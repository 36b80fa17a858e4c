// Serves the single-page application. It has no other part in the sign-in.
import { fileURLToPath } from 'node:url'
import express from 'express'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { CLIENT_ID = 'first-app', APP = 'http://127.0.0.1:3002' } = process.env

const app = express()
app.use(express.static(import.meta.dirname))
app.get('/oauth4webapi.js', (_req, res) => {
  res.sendFile(fileURLToPath(import.meta.resolve('oauth4webapi')))
})
app.get('/settings.json', (_req, res) => res.json({ ISSUER, API, CLIENT_ID }))
app.listen(new URL(APP).port, () => console.log(`The application listens at ${APP}`))
