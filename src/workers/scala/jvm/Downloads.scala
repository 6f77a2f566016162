package nb.worker

import ammonite.interp.Interpreter

import java.util.Collections
import scala.util.matching.Regex

/** Libraries that cells ask for: the spellings that become `import $ivy`, and what is said while they come. */
object Downloads {
  private val Coordinates = """([^\s`"']+)"""
  private val Dep: Regex = s"""%dep\\s+$Coordinates\\s*""".r
  private val Directive: Regex = s"""//>\\s*using\\s+(?:dep|lib)\\s+"?$Coordinates"?\\s*""".r
  private val Toree: Regex = """(?i)%AddDeps?\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+--\S+)*\s*""".r

  /** The same cell with its lines of dependencies as Ammonite has them; each stays the line that it was. */
  def asImports(code: String): String =
    if (!code.contains("%") && !code.contains("//>")) code
    else code.split("\n", -1).map(line).mkString("\n")

  private def line(line: String): String = line.trim match {
    case Dep(coordinates)              => s"import $$ivy.`$coordinates`"
    case Directive(coordinates)        => s"import $$ivy.`$coordinates`"
    case Toree(group, module, version) => s"import $$ivy.`$group:$module:$version`"
    case _                             => line
  }

  /** Says on stderr which files come, and leaves sources where they are. */
  def tellOf(interp: Interpreter): Unit =
    interp.resolutionHooks += { fetch =>
      val logger = new coursierapi.SimpleLogger {
        override def starting(url: String): Unit =
          if (url.endsWith(".jar")) System.err.println(s"downloads ${url.split('/').last}")
      }
      fetch.withCache(fetch.getCache.withLogger(logger)).withClassifiers(Collections.emptySet())
    }
}
