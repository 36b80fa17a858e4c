/**
 * The guards of a source and how to break them: each mutant is one change after which something is
 * let through that should be refused, or the other way round.
 */
import ts from 'typescript'

export interface Mutant {
  /** From 1 on. */
  readonly line: number
  readonly start: number
  readonly end: number
  /** What stands there. */
  readonly guard: string
  /** What takes its place. */
  readonly replacement: string
}

/** How a source says no. */
const refusing =
  /\bthrow\b|\brefus\w*|\binactive\b|\bproblem\b|\bundefined\b|\bfail\w*|\b(?:true|false)\b|\bnull\b|^\{?\s*return;?\s*\}?$|Error\b|\bend\(/i

/** Functions that answer yes or no. */
const predicate =
  /^(?:is|are|has|may|can|shows?|accepts?|suits?|match(?:es)?|verif(?:y|ies)|needs?|was|includes|equal)(?:[A-Z].*)?$/

/** Methods whose callback answers so. */
const choosing = /\.(?:some|every|find|filter|findIndex)$/

type Operator = ts.SyntaxKind.AmpersandAmpersandToken | ts.SyntaxKind.BarBarToken

/** Every mutant of a source. */
export function mutantsOf(file: string, text: string): readonly Mutant[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: Mutant[] = []

  function change(node: ts.Node, replacement: string): void {
    const [start, end] = [node.getStart(), node.getEnd()]
    const guard = text.slice(start, end)
    const line = source.getLineAndCharacterOfPosition(start).line + 1
    if (guard !== replacement) found.push({ line, start, end, guard, replacement })
  }

  /** A condition as a whole, and each of the operands that alone decide it. */
  function decide(condition: ts.Expression, value: 'true' | 'false'): void {
    change(condition, value)
    const operator =
      value === 'false' ? ts.SyntaxKind.BarBarToken : ts.SyntaxKind.AmpersandAmpersandToken
    const operands = operandsOf(condition, operator)
    if (operands.length > 1) for (const operand of operands) change(operand, value)
  }

  function visit(node: ts.Node): void {
    if (ts.isIfStatement(node)) {
      const { expression, thenStatement, elseStatement } = node
      const refuses = exits(thenStatement) && refusing.test(textsOf(expression, thenStatement))
      if (refuses) decide(expression, 'false')
      if (elseStatement && exits(elseStatement)) decide(expression, 'true')
    } else if (ts.isConditionalExpression(node)) {
      if (refusing.test(node.whenTrue.getText())) decide(node.condition, 'false')
      if (refusing.test(node.whenFalse.getText())) decide(node.condition, 'true')
    } else if (ts.isBinaryExpression(node) && /\?\? *(?:\(?throw|refuse)/.test(node.getText())) {
      if (/^refuse/.test(node.right.getText())) change(node, node.left.getText())
    } else if (ts.isFunctionLike(node) && answersYesOrNo(node)) {
      for (const answer of answersOf(node)) {
        decide(answer, 'true')
        change(answer, 'false')
      }
    } else if (ts.isArrowFunction(node) && choosing.test(calleeOf(node))) {
      const operands = operandsOf(node.body as ts.Expression, ts.SyntaxKind.AmpersandAmpersandToken)
      if (operands.length > 1) for (const operand of operands) change(operand, 'true')
    }
    node.forEachChild(visit)
  }

  visit(source)
  return distinct(found)
}

/** What a function is handed to, if it is an argument. */
function calleeOf({ parent }: ts.Node): string {
  return ts.isCallExpression(parent) ? parent.expression.getText() : ''
}

function textsOf(...nodes: readonly ts.Node[]): string {
  return nodes.map((node) => node.getText()).join(' ')
}

/** Whether what follows a statement is not reached. */
function exits(statement: ts.Statement): boolean {
  const last = ts.isBlock(statement) ? statement.statements.at(-1) : statement
  return (
    last !== undefined &&
    (ts.isReturnStatement(last) || ts.isThrowStatement(last) || ts.isContinueStatement(last))
  )
}

function operandsOf(expression: ts.Expression, operator: Operator): readonly ts.Expression[] {
  if (ts.isParenthesizedExpression(expression)) return operandsOf(expression.expression, operator)
  if (!ts.isBinaryExpression(expression) || expression.operatorToken.kind !== operator) {
    return [expression]
  }
  const { left, right } = expression
  return [...operandsOf(left, operator), ...operandsOf(right, operator)]
}

function answersYesOrNo(node: ts.SignatureDeclaration): boolean {
  const { type, parent } = node
  if (type?.kind === ts.SyntaxKind.BooleanKeyword) return true
  if (type && ts.isTypePredicateNode(type)) return true
  const name = node.name ?? (ts.isVariableDeclaration(parent) ? parent.name : undefined)
  return type === undefined && name !== undefined && predicate.test(name.getText())
}

/** What a function returns, but for what it says outright. */
function answersOf(node: ts.SignatureDeclaration): readonly ts.Expression[] {
  const { body } = node as { body?: ts.ConciseBody }
  if (!body) return []
  const answers: ts.Expression[] = []
  const note = (expression: ts.Expression) => {
    if (!/^(?:true|false)$/.test(expression.getText())) answers.push(expression)
  }
  if (!ts.isBlock(body)) note(body)
  function visit(child: ts.Node): void {
    if (ts.isFunctionLike(child)) return
    if (ts.isReturnStatement(child) && child.expression) note(child.expression)
    child.forEachChild(visit)
  }
  if (ts.isBlock(body)) body.forEachChild(visit)
  return answers
}

function distinct(mutants: readonly Mutant[]): readonly Mutant[] {
  const key = ({ start, end, replacement }: Mutant) => `${start} ${end} ${replacement}`
  const byKey = new Map(mutants.map((mutant) => [key(mutant), mutant]))
  return [...byKey.values()].sort((one, other) => one.start - other.start)
}
