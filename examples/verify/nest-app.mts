// main.ts of a Nest application
import 'reflect-metadata'
import { createVerifier } from '@holdfast/verify'
import { expressVerify } from '@holdfast/verify/express'
import { Controller, Get, type MiddlewareConsumer, Module, Req } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { Request } from 'express'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = expressVerify(verifier)

@Controller('notes')
class NotesController {
  @Get()
  list(@Req() request: Request) {
    return request.auth?.claims
  }
}

@Module({ controllers: [NotesController] })
class AppModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(verify, verify.requiredScopes('notes:read')).forRoutes(NotesController)
  }
}

const app = await NestFactory.create(AppModule)
await app.listen(Number(process.env.PORT), '127.0.0.1')
