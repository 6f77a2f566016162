package nb.worker

import ammonite.compiler.{CompilerLifecycleManager, Parsers}

import scala.reflect.internal.util.{BatchSourceFile, OffsetPosition}
import scala.tools.nsc.interactive.Response

/** Completion and inspection by the presentation compiler, which may take long or hang: never in the thread of cells, and never
  * under a lock that a cell waits for.
  *
  * Offsets are UTF-16 units of the code.
  */
final class Hints(session: Session) {
  private def pressy = session.interp.compilerManager.asInstanceOf[CompilerLifecycleManager].pressy

  /** What may stand from this offset on. */
  def complete(code: String, cursor: Int): (Int, Seq[String]) = {
    val (from, names, _) = pressy.complete(cursor, session.imports.toString, code)
    (math.max(0, math.min(from, cursor)), names.filter(_.nonEmpty))
  }

  /** What is known of what stands here: its definition with types, and where it is from. */
  def inspect(code: String, cursor: Int): Option[String] = {
    val compiler = pressy.compiler
    val before = s"${session.imports}\nobject Inspected{\n"
    val all = s"$before$code\n}"
    val file = new BatchSourceFile(ammonite.compiler.Compiler.makeFile(all.getBytes("UTF-8"), "Inspected.sc"), all)
    await[Unit](compiler.askReload(List(file), _))
    nameAt(code, cursor).flatMap { case (name, place) =>
      val offset = before.length + place
      val position = new OffsetPosition(file, offset)
      val tree = await[compiler.Tree](compiler.askTypeAt(position, _))
      // Of code that is not whole, as a method without its arguments, there is only what may stand there.
      lazy val members = tree match {
        case compiler.Select(qualifier, _) if qualifier.pos.isRange =>
          await[List[compiler.Member]](compiler.askTypeCompletion(new OffsetPosition(file, qualifier.pos.end), _))
        case _ => await[List[compiler.Member]](compiler.askScopeCompletion(position, _))
      }
      def isKnown(symbol: compiler.Symbol) = symbol != null && symbol != compiler.NoSymbol && !symbol.isError
      val typed = compiler.ask(() => Some(tree.symbol).filter(isKnown))
      val symbol = typed.orElse(members.find(_.sym.name.decoded.trim == name).map(_.sym))
      symbol.map { symbol =>
        compiler.ask { () =>
          val tpe = if (typed.isEmpty) symbol.tpe else Option(tree.tpe).fold(symbol.tpe)(_.widen)
          val from = symbol.fullName.stripPrefix("Inspected.").replaceAll(Hints.Wrapper, "$1.$2")
          s"${symbol.defString}\ntype: $tpe\nfrom: $from"
        }
      }
    }
  }

  /** The name that the cursor is in or behind, and where it begins. */
  private def nameAt(code: String, cursor: Int): Option[(String, Int)] = {
    def isName(place: Int) = place >= 0 && place < code.length && Character.isJavaIdentifierPart(code.charAt(place))
    Seq(cursor, cursor - 1).find(isName).map { place =>
      val start = Iterator.iterate(place)(_ - 1).dropWhile(isName).next() + 1
      val end = Iterator.iterate(place)(_ + 1).dropWhile(isName).next()
      (code.substring(start, end), start)
    }
  }

  private def await[T](ask: Response[T] => Unit): T = {
    val response = new Response[T]
    ask(response)
    response.get.fold(identity, throw _)
  }
}

object Hints {

  /** What a definition of a cell is called: the cell and its name are enough. */
  private val Wrapper = """^ammonite\.\$sess\.(cmd\w+)\..*?([^.]+)$"""

  /** As `is_complete_reply` has it. */
  def isComplete(code: String): String =
    Parsers.split(Downloads.asImports(code), ignoreIncomplete = true, "cell.sc") match {
      case None           => "incomplete"
      case Some(Left(_))  => "invalid"
      case Some(Right(_)) => "complete"
    }
}
