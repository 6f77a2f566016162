package nb.worker

import ammonite.runtime.Frame
import ammonite.util.Name

import java.lang.reflect.InvocationTargetException
import scala.reflect.NameTransformer
import scala.util.Try

/** What cells have defined, found by name and without compiling anything. */
object Defined {

  /** The value that has this name in the next cell, if its type is known to be this one. What a cell defines are methods of its instance,
    * and what it imports those of an object within. What the definition throws is thrown.
    */
  def as[T <: AnyRef](wanted: Class[T], name: String, session: Frame): Option[T] =
    try
      for {
        known <- session.imports.value.find(one => plain(one.toName) == name)
        cell +: "instance" +: within <- Option(known.prefix.map(plain).dropWhile(_ != "$sess").drop(1))
        instance <- method(session.classloader.loadClass(s"ammonite.$$sess.$cell"), "instance").map(_.invoke(null))
        owner <- within.foldLeft(Option(instance))((at, name) => at.flatMap(inner(_, name)))
        found <- method(owner.getClass, plain(known.fromName)) if wanted.isAssignableFrom(found.getReturnType)
        value <- Option(wanted.cast(found.invoke(owner)))
      } yield value
    catch { case thrown: InvocationTargetException => throw thrown.getCause }

  /** Ammonite keeps the quotes of some names. */
  private def plain(name: Name): String = name.raw.stripPrefix("`").stripSuffix("`")

  private def method(of: Class[_], name: String) =
    of.getMethods.find(one => one.getName == NameTransformer.encode(name) && one.getParameterCount == 0)

  /** An object within another one is a class beside it. */
  private def inner(of: AnyRef, name: String): Option[AnyRef] = method(of.getClass, name).map(_.invoke(of)).orElse {
    val module = s"${of.getClass.getName}${NameTransformer.encode(name)}$$"
    Try(Class.forName(module, true, of.getClass.getClassLoader).getField("MODULE$").get(null)).toOption
  }
}
